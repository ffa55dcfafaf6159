"""The form of each kind of attention that a run takes, to be told."""
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.models.kernels import fused_attention


def attention_forms(config: schema.DenoiserExperiment, platform: str
                    ) -> dict[str, str]:
  """The form by kind of attention: 'spatial', 'spacetime' and 'text'.

  Where the form that was chosen does not serve a size, it is the plain one,
  with the reason.

  Args:
    config: A denoiser's config.
    platform: 'cpu', 'gpu' or 'tpu', of the mesh's devices.
  """
  chosen = networks.attention_form(config, platform)
  return {
      kind: chosen if reason is None else (
          f'{fused_attention.PLAIN_FORM} ({chosen} does not serve {reason})')
      for kind, reason in networks.attention_refusals(config, chosen).items()}


def words(config: schema.Experiment, platform: str) -> str:
  """The forms in a few words, for a log line; '' without attention."""
  if not isinstance(config, schema.DenoiserExperiment):
    return ''
  forms = attention_forms(config, platform)
  if len(set(forms.values())) == 1:
    return f'attention {next(iter(forms.values()))}'
  return 'attention ' + ', '.join(
      f'{kind} {form}' for kind, form in forms.items())
