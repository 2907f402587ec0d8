"""Feature extractors of perceptual losses and metrics: `[N, H, W, 3]` RGB in [0, 1] to named feature maps."""

from typing import TYPE_CHECKING

from srgan_jax.runtime.lazy_table import LazyTable

if TYPE_CHECKING:
    from srgan_jax.models.extractors.resnet152v2 import ResNet152V2
    from srgan_jax.models.extractors.vgg19 import VGG19

EXTRACTORS: "LazyTable[type[VGG19] | type[ResNet152V2]]" = LazyTable(  # weights: `srgan-jax port NAME`
    __name__, {"vgg19": "vgg19:VGG19", "resnet152v2": "resnet152v2:ResNet152V2"}
)

# Factor of the features in the perceptual loss, by convention of the weights. The paper's 1/12.75 suits the Caffe
# weights, whose features are large. With torchvision's weights it makes the content term negligible; unscaled, they
# train well. "signed" is the convention of Keras' ResNetV2 weights, input in [-1, 1]. With it and with "bgr_unit" the
# features of VGG19 are small.
FEATURE_SCALE = {"caffe": 1 / 12.75, "torchvision": 1.0, "signed": 1.0, "bgr_unit": 1.0}
