"""Feature extractors of perceptual losses and metrics: `[N, H, W, 3]` RGB in [0, 1] to named feature maps."""

from srgan_jax.models.extractors.resnet152v2 import ResNet152V2
from srgan_jax.models.extractors.vgg19 import VGG19

EXTRACTORS = {"vgg19": VGG19, "resnet152v2": ResNet152V2}  # each with its TAPS, and ported by `srgan-jax port NAME`

# The paper's 1/12.75 belongs to the Caffe weights, whose features are large. With torchvision's the same factor makes
# the content term vanish; unscaled, they train well. "signed" are Keras' weights of ResNetV2, for [-1, 1].
FEATURE_SCALE = {"caffe": 1 / 12.75, "torchvision": 1.0, "signed": 1.0}
