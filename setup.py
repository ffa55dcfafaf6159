"""Package metadata; pinned versions live in constraints.txt."""
import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(
    r"__version__ = '([^']+)'",
    (_ROOT / 'walt_jax' / '__init__.py').read_text()).group(1)

setuptools.setup(
    name='walt_jax',
    version=_VERSION,
    description='W.A.L.T latent video diffusion in JAX and Flax.',
    long_description=(_ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    author='The walt_jax authors',
    license='Apache-2.0',
    project_urls={'Paper': 'https://arxiv.org/abs/2312.06662'},
    # Runs on Linux (CPU, GPU, TPU); on macOS, the quickstart runs on the CPU.
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: MacOS',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    keywords='video generation, latent diffusion, transformer, JAX, Flax',
    python_requires='>=3.11',
    packages=[
        *setuptools.find_packages(include=['walt_jax', 'walt_jax.*']),
        'walt_jax.configs'],
    package_dir={'walt_jax.configs': 'configs'},
    package_data={'walt_jax': [
        'py.typed', 'planning/gpu_specs/*.txtpb',
        'data/sources/stage_play/art.sha256']},
    install_requires=[
        'absl-py', 'av>=18', 'flax>=0.10', 'grain>=0.2.10', 'array-record',
        'jax>=0.10', 'ml-collections', 'numpy', 'optax>=0.2.4',
        'orbax-checkpoint>=0.11,<1', 'pillow', 'safetensors', 'tokenizers',
    ],
    extras_require={
        # JAX for an accelerator; `cpu` is what comes without any.
        'cpu': [],
        'cuda12': ['jax[cuda12]'],
        'cuda13': ['jax[cuda13]'],
        'tpu': ['jax[tpu]'],
        # Moving digits and the readers that score them.
        'digits': ['scikit-learn'],
        # TensorBoard files through CLU's writers, which import TensorFlow.
        'tensorboard': ['clu', 'tensorflow-cpu', 'tensorboard'],
        # `train.writers` may name W&B.
        'wandb': ['wandb'],
        'data': ['apache-beam', 'tensorflow-datasets', 'pyarrow'],
        'text': ['sentencepiece'],
        # gs:// paths (`core/paths.py`).
        'gcs': ['gcsfs'],
        # `walt demo`.
        'demo': ['gradio>=6,<7'],
        # `walt plan --topology`: libtpu, which compiles without a TPU.
        'tpu_plan': ['jax[tpu]'],
        # `walt plan --topology h100:8`: XLA's compiler for GPUs, which needs
        # none.
        'gpu_plan': ['jax-cuda12-pjrt', 'nvidia-cuda-nvcc-cu12'],
        'test': ['pytest', 'pytest-xdist', 'ruff', 'mypy', 'scipy',
                 'scikit-image', 'gcp-storage-emulator'],
        # Heavy peers for `make parity`; never needed at run time.
        'parity': ['torch', 'torchvision', 'diffusers', 'transformers',
                   'pytorch-fid', 'lpips'],
    },
    entry_points={'console_scripts': ['walt = walt_jax.commands.cli:main']},
)
