"""Every section of a config: a line a key, with the paper's value.

`of` checks a whole config, once, and every builder reads the result. A key
without a default must be given. One with a default may be left out,
configs of runs that are older than the key do: its default is what they did.
"""
from walt_jax.builders.schema.data import Data
from walt_jax.builders.schema.data import Mesh
from walt_jax.builders.schema.data import Train
from walt_jax.builders.schema.denoiser import Denoiser
from walt_jax.builders.schema.denoiser import Diffusion
from walt_jax.builders.schema.denoiser import Latents
from walt_jax.builders.schema.denoiser import Text
from walt_jax.builders.schema.denoiser import Tokenizer
from walt_jax.builders.schema.experiment import STAGES
from walt_jax.builders.schema.experiment import Config
from walt_jax.builders.schema.experiment import DenoiserExperiment
from walt_jax.builders.schema.experiment import Experiment
from walt_jax.builders.schema.experiment import TokenizerExperiment
from walt_jax.builders.schema.experiment import TokenizerExport
from walt_jax.builders.schema.experiment import default
from walt_jax.builders.schema.experiment import hint
from walt_jax.builders.schema.experiment import is_section
from walt_jax.builders.schema.experiment import of
from walt_jax.builders.schema.experiment import with_defaults
from walt_jax.builders.schema.sampler import Guidance
from walt_jax.builders.schema.sampler import Sampler
from walt_jax.builders.schema.tokenizer import Autoencoder
from walt_jax.builders.schema.tokenizer import Discriminator
from walt_jax.builders.schema.tokenizer import FeatureDiscriminator
from walt_jax.builders.schema.tokenizer import OwnTokenizer
from walt_jax.builders.schema.tokenizer import Perceptual
from walt_jax.builders.schema.tokenizer import RandomTokenizer
from walt_jax.builders.schema.tokenizer import Statistics
from walt_jax.builders.schema.versions import VERSION
from walt_jax.builders.schema.versions import completed

__all__ = [
    'Autoencoder',
    'Config',
    'Data',
    'Denoiser',
    'DenoiserExperiment',
    'Diffusion',
    'Discriminator',
    'Experiment',
    'FeatureDiscriminator',
    'Guidance',
    'Latents',
    'Mesh',
    'OwnTokenizer',
    'Perceptual',
    'RandomTokenizer',
    'STAGES',
    'Sampler',
    'Statistics',
    'Text',
    'Tokenizer',
    'TokenizerExperiment',
    'TokenizerExport',
    'Train',
    'VERSION',
    'completed',
    'default',
    'hint',
    'is_section',
    'of',
    'with_defaults',
]
