"""Writes tests/diffusion/golden/diffusers.npz from diffusers' schedulers.

Run in an environment with torch and diffusers:
  python tests/parity/make_diffusion_golden.py
"""
import functools
import pathlib
from unittest import mock

import diffusers
import numpy as np
import torch

SHAPE = (2, 3, 4, 4, 2)
BETAS = dict(linear='linear', cosine='squaredcos_cap_v2')
GOLDEN = (pathlib.Path(__file__).resolve().parent.parent
          / 'diffusion' / 'golden' / 'diffusers.npz')
COMMON = dict(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02,
              timestep_spacing='trailing')
CLIP = dict(clip_sample=False)


def build(cls, **options):
  return cls(**COMMON, **options)


def model(x, step):
  """A fixed, bounded function of x and of the discrete step."""
  time = (step + 1) / 1000
  return 0.8 * torch.tanh(x) * np.cos(3 * time) - 0.4 * x * time


def trajectory(scheduler, num_steps, x, noises=None, **step_options):
  scheduler.set_timesteps(num_steps)
  steps = []
  for number, step in enumerate(scheduler.timesteps):
    output = model(x, int(step))
    fresh = None if noises is None else torch.from_numpy(noises[number])
    randn = lambda *args, fresh=fresh, **options: fresh
    with (mock.patch('diffusers.schedulers.scheduling_ddpm.randn_tensor',
                     randn),
          mock.patch('diffusers.schedulers.scheduling_ddim.randn_tensor',
                     randn)):
      x = scheduler.step(output, step, x, **step_options).prev_sample
    steps.append(x.numpy())
  return np.stack(steps)


def main():
  rng = np.random.default_rng(0)
  out = {'x': rng.standard_normal(SHAPE).astype(np.float32)}
  x = torch.from_numpy(out['x'])
  for name, betas in BETAS.items():
    for zero in (False, True):
      make = functools.partial(
          build, beta_schedule=betas, rescale_betas_zero_snr=zero)
      tag = f'{name}_{"zero" if zero else "plain"}'
      ddim = make(diffusers.DDIMScheduler, prediction_type='v_prediction',
                  set_alpha_to_one=True, **CLIP)
      out[f'gammas/{tag}'] = ddim.alphas_cumprod.numpy()
      for num_steps in (1, 10, 50):
        out[f'ddim_{num_steps}/{tag}'] = trajectory(ddim, num_steps, x)
      for num_steps in (2, 10, 20):
        solver = make(
            diffusers.DPMSolverMultistepScheduler,
            prediction_type='v_prediction', algorithm_type='dpmsolver++',
            solver_order=2)
        out[f'dpmpp_2m_{num_steps}/{tag}'] = trajectory(solver, num_steps, x)
      if name == 'linear':
        noises = rng.standard_normal((10, *SHAPE)).astype(np.float32)
        out[f'noises/{tag}'] = noises
        out[f'ddim_half_10/{tag}'] = trajectory(ddim, 10, x, noises, eta=0.5)
        ddpm = make(diffusers.DDPMScheduler, prediction_type='v_prediction',
                    **CLIP)
        out[f'ddpm_10/{tag}'] = trajectory(ddpm, 10, x, noises)
    for kind, diffusers_kind in (('eps', 'epsilon'), ('x0', 'sample')):
      ddim = diffusers.DDIMScheduler(
          beta_schedule=betas, prediction_type=diffusers_kind, **COMMON,
          **CLIP)
      out[f'ddim_{kind}_10/{name}_plain'] = trajectory(ddim, 10, x)
  GOLDEN.parent.mkdir(exist_ok=True)
  np.savez_compressed(GOLDEN, **out)
  print(GOLDEN, f'{GOLDEN.stat().st_size / 1e3:.0f} kB',
        f'diffusers {diffusers.__version__}')


if __name__ == '__main__':
  main()
