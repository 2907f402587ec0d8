"""What a file holds that is not a generator of the package, for error messages."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Names = Mapping[str, np.ndarray]
SHOWN = 10  # names of tensors in the message about a file of which nothing is known


class Kind(NamedTuple):
    """Something that people take for a generator of the package.

    Attributes:
      what: its description, the end of "the file holds ...".
      parts: parts of names, of which the file must have all.
    """

    what: str
    parts: tuple[str, ...]


ARCHITECTURE = "{} or a relative of it, which isn't supported"
KINDS = (  # the first that fits; architectures from those with more special names to those with fewer
    Kind(ARCHITECTURE.format("OmniSR"), ("residual_layer.", ".esa.")),
    Kind(ARCHITECTURE.format("HAT"), ("conv_first.", "overlap_attn.")),
    Kind(ARCHITECTURE.format("DRCT"), ("conv_first.", ".swin1.", ".adjust1.")),
    Kind(ARCHITECTURE.format("ATD"), ("conv_first.", ".attn_atd.")),
    Kind(ARCHITECTURE.format("SRFormer"), ("conv_first.", ".attn.aligned_bias_table")),
    Kind(ARCHITECTURE.format("GRL"), ("conv_first.", ".attn.window_attn.")),
    Kind(ARCHITECTURE.format("CRAFT"), ("conv_first.", ".hf_blocks.")),
    Kind(ARCHITECTURE.format("FDAT"), ("conv_first.", "groups.0.blocks.0.inter.")),
    Kind(ARCHITECTURE.format("Swin2SR"), ("conv_first.", ".attn.logit_scale", ".attn.cpb_mlp.")),
    Kind(ARCHITECTURE.format("SwinIR"), ("conv_first.", ".residual_group.blocks.", ".attn.relative_position_bias")),
    Kind(ARCHITECTURE.format("RGT"), ("conv_first.", "before_RG.", ".norm_act.")),
    Kind(ARCHITECTURE.format("DAT"), ("conv_first.", "before_RG.")),
    Kind(ARCHITECTURE.format("PLKSR"), ("feats.0.", ".lk.")),
    Kind(ARCHITECTURE.format("SAFMN"), ("to_feat.", "feats.0.", ".safm.")),
    Kind(ARCHITECTURE.format("RCAN"), ("head.0.", "body.0.body.0.body.", ".conv_du.")),
    Kind(ARCHITECTURE.format("EDSR"), ("head.0.", "body.0.body.", "tail.")),
    Kind(ARCHITECTURE.format("SPAN"), ("block_1.c1_r.", "upsampler.")),
    Kind(ARCHITECTURE.format("SPAN+"), (".c1_r.", ".sk.")),
    Kind(ARCHITECTURE.format("MoSR"), ("gblocks.",)),
    Kind(ARCHITECTURE.format("MoESR"), ("in_to_dim.", ".msg.")),
    Kind(ARCHITECTURE.format("SeemoRe"), (".local_block.", ".global_block.")),
    Kind(ARCHITECTURE.format("DCTLSA"), (".transformer_body.", "fea_conv.")),
    Kind(ARCHITECTURE.format("DITN"), ("UFONE.",)),
    Kind(ARCHITECTURE.format("Swift-SRGAN"), ("initial.cnn.depthwise.",)),
    Kind(ARCHITECTURE.format("NAFNet"), ("intro.", "middle_blks.", "ending.")),
    Kind(ARCHITECTURE.format("Restormer"), ("patch_embed.proj.", "encoder_level1.", "refinement.")),
    Kind(ARCHITECTURE.format("SCUNet"), ("m_head.", ".trans_block.")),
    Kind(ARCHITECTURE.format("FBCNN"), ("m_head.", "qf_embed.")),
    Kind(ARCHITECTURE.format("DRUNet"), ("m_head.", "m_down1.")),
    Kind(ARCHITECTURE.format("waifu2x's CUNet"), ("unet1.", "unet2.")),
    Kind("GFPGAN or CodeFormer, which restores faces", ("stylegan_decoder.",)),
    Kind("CodeFormer, which restores faces", ("ft_layers.", "quantize.")),
    Kind("a LoRA, a change of another network's weights", ("lora_",)),
    Kind("a latent diffusion model", ("model.diffusion_model.",)),
    Kind("a text encoder (CLIP)", ("text_model.", "embeddings.")),
    Kind("a text encoder (CLIP)", ("transformer.resblocks.", "token_embedding.")),
    Kind("a language model or text encoder", ("encoder.block.", ".SelfAttention.")),
    Kind("a language model or text encoder", ("word_embeddings.",)),
    Kind("a language model", ("embed_tokens.",)),
    Kind("an autoencoder", ("encoder.down", "decoder.up", "quant_conv")),
    Kind("a U-Net of diffusers", ("down_blocks.", "mid_block.")),
    Kind("a discriminator (U-Net, as Real-ESRGAN's)", ("conv0.", "conv9.weight", "conv4.weight")),
    Kind("a discriminator (VGG, as ESRGAN's)", ("conv0_0.", "bn0_1.", "linear1.")),
    Kind("a discriminator (VGG, as ESRGAN's first code)", ("features.", "classifier.", "running_mean")),
    Kind("VGG or another classifier of torchvision", ("features.0.", "classifier.")),
    Kind("a ResNet classifier", ("layer1.0.conv1.", "fc.")),
    Kind("the linear heads of LPIPS", ("lin0.model.1.",)),
)
OPTIMIZER_KEYS = ("param_groups", "optimizer", "optimizers", "optimizer_states")


def describe_unknown(content: Any, tensors: Names) -> str:
    """Returns what a file holds: a known network, an optimiser's state, or its keys or the first ten tensors.

    Args:
      content: the object of the file.
      tensors: those of its state dict; {} if it has none.
    """
    for kind in KINDS:
        if all(any(part in name for name in tensors) for part in kind.parts):
            return f"it holds {kind.what}; srgan-jax import --list prints what is known"
    keys = [str(key)[:40] for key in content] if isinstance(content, Mapping) else []
    if any(key in OPTIMIZER_KEYS for key in keys):
        return f"it holds the state of an optimiser (keys {', '.join(keys[:SHOWN])})"
    if not tensors:
        found = f"keys {', '.join(keys[:SHOWN])}" if keys else f"a {type(content).__name__}"
        return f"it holds no state dict of tensors ({found}); expected torch.save(model.state_dict(), FILE)"
    shown = ", ".join(f"{name} {'x'.join(map(str, tensors[name].shape))}" for name in list(tensors)[:SHOWN])
    return f"it holds {len(tensors)} tensors, the first are {shown}; srgan-jax import --list prints what is known"
