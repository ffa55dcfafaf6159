"""What encoding a batch of clips takes beside the model, config by config.

  python -m benchmarks.encoders

Counts from shapes (`walt plan` prints them, too): nothing is compiled.
"""
from benchmarks import harness
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.planning import encoding
from walt_jax.planning import summary
from walt_jax.planning import topology_plan

CONFIGS = ('ucf101', 'ucf101:l', 'k600', 'imagenet256', 't2v_base',
           't2v_base_9x16', 't2v_sr1', 't2v_sr2')


def row(spec: str) -> harness.Row:
  """A config's costs."""
  config = schema.of(config_lib.load(spec))
  flops = topology_plan.model_flops(summary.plan(config))
  costs = encoding.costs(config, flops)['encoder']
  return costs | dict(model_flops_per_step=flops,
                      tokenizer=costs['tokenizer'].partition(',')[0])


def main() -> None:
  """Counts and writes the rows."""
  harness.write('encoders', {spec: row(spec) for spec in CONFIGS})


if __name__ == '__main__':
  main()
