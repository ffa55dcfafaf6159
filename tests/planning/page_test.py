"""What a plan's page says."""
import html

from absl.testing import absltest

from walt_jax.planning import page

GIB = 1 << 30
LAYOUT = dict(
    mesh=dict(data=1, fsdp=2, tensor=3), remat_policy='full',
    estimated_bytes=GIB, estimated_step_seconds=1.0,
    hbm_needed_bytes=2 * GIB, compiled=True, fits=True, step_seconds=1.5,
    mfu=0.3)
PLAN = dict(
    config='configs/<x>.py', stage='denoiser', parameters=1234567,
    topology='v5p:4x4x4', num_chips=64, fits=True,
    hbm_capacity_bytes=95 * GIB, hbm_needed_bytes=38 * GIB,
    memory_by_part=dict(parameters=19 * GIB, optimizer=19 * GIB),
    collectives={'all-gather': dict(
        count=12, bytes=3 * GIB, largest_bytes=5 << 20)},
    largest_collectives=[dict(
        shape='bf16[1,2]', kind='all-gather', count=3, op_name='layers/mlp')],
    roofline=dict(step_seconds=1.25, assumptions=['one <thing>']),
    sampler_program=dict(num_samples=4, fits=False,
                         hbm_needed_bytes=200 * GIB),
    sweep=[LAYOUT], recommended=LAYOUT,
    parameters_by_part=dict(layers=1234500, head=67))


class PageTest(absltest.TestCase):

  def test_every_part_has_a_section(self):
    text = page.page(PLAN)
    for heading in ('Memory of a chip', 'Collectives of a step', 'Roofline',
                    'Sampling', 'Layouts', 'Parameters by part'):
      self.assertIn(f'<h2>{heading}</h2>', text)
    for words in ('It fits.', 'width:20.00%', '1,234,567', 'bf16[1,2]',
                  'layers/mlp', '1 x 2 x 3', 'v5p:4x4x4',
                  html.escape('one <thing>'), html.escape('configs/<x>.py')):
      self.assertIn(words, text)
    self.assertNotIn('<x>', text)

  def test_what_was_not_planned_is_left_out(self):
    text = page.page({name: PLAN[name] for name in (
        'config', 'stage', 'parameters', 'parameters_by_part')})
    self.assertEqual(text.count('<h2>'), 1)
    self.assertNotIn('fits', text)


if __name__ == '__main__':
  absltest.main()
