"""The micro models' forward pass for training: the stock modules' weights, without the stock code's loops over frames.

A test holds it equal to the stock forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from scripts.micro_training.batches import HEADS, PAD_LABEL
from scripts.micro_training.models import SIDE

TAP = 3
"""After how many text layers the auxiliary heads read."""
_PATCHES = SIDE // 14


class Trained(nn.Module):
    """A micro model and the heads that are dropped at export."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.qwen = "qwen" in model.config.model_type
        width = model.config.text_config.hidden_size
        self.heads = nn.Linear(width, sum(HEADS.values()))
        self.look = nn.Linear(width, HEADS["color"] + HEADS["shape"])
        text = model.config.text_config
        self.sections = (
            text.rope_parameters["mrope_section"] if self.qwen else [text.hidden_size // text.num_attention_heads // 2]
        )
        size = text.hidden_size // text.num_attention_heads
        theta = text.rope_parameters["rope_theta"]
        self.register_buffer("frequencies", 1.0 / theta ** (torch.arange(0, size, 2).float() / size), persistent=False)
        if self.qwen:
            cos, sin = _vision_rope(model)
            self.register_buffer("vision_cos", cos, persistent=False)
            self.register_buffer("vision_sin", sin, persistent=False)

    def forward(self, batch: dict[str, torch.Tensor], pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses, and which answers are right throughout.

        Args:
            batch: from :class:`scripts.micro_training.batches.Writer`.
            pixels: normalised, ``[samples * frames, 3, SIDE, SIDE]``.
        """
        pictures = self.pictures(pixels)
        tapped, last = self.states(batch, pictures)
        spots = batch["spot"][..., None].expand(-1, -1, last.shape[-1])
        chosen = self.model.model.language_model.norm(last.gather(1, spots))
        logits = F.linear(chosen, self.model.lm_head.weight).float()
        label = batch["label"]
        answer = F.cross_entropy(logits.flatten(0, 1), label.flatten(), ignore_index=PAD_LABEL)
        behind = tapped.gather(1, batch["behind"][..., None].expand(-1, -1, tapped.shape[-1]))
        auxiliary, known = self._auxiliary(self.heads(behind).float(), batch["facts"], list(HEADS.values()))
        looked = self.look(pictures.view(*batch["picture"].shape, -1, pictures.shape[-1]).mean(2)).float()
        looking, seen = self._auxiliary(looked, batch["facts"][..., :2], [HEADS["color"], HEADS["shape"]])
        wrong = (logits.argmax(-1) != label) & (label != PAD_LABEL)
        asked = torch.zeros_like(batch["kind"]).scatter_add_(1, batch["of"], wrong.long())
        return {"answer": answer, "auxiliary": auxiliary + looking, "right": asked == 0, "known": known, "seen": seen}

    def _auxiliary(
        self, logits: torch.Tensor, labels: torch.Tensor, sizes: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total, rights = logits.new_zeros(()), []
        for number, part in enumerate(logits.split(sizes, -1)):
            label = labels[..., number]
            total = total + F.cross_entropy(part.flatten(0, 1), label.flatten(), ignore_index=PAD_LABEL)
            rights.append(((part.argmax(-1) == label).sum() / (label != PAD_LABEL).sum()).float())
        return total / len(sizes), torch.stack(rights)

    def pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[frames, tokens of a picture, width]``."""
        return self._qwen_pictures(pixels) if self.qwen else self._llava_pictures(pixels)

    def states(self, batch: dict[str, torch.Tensor], pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states at the tap, and after the last layer before its norm: ``[samples, tokens, width]`` each."""
        text = self.model.model.language_model
        samples, tokens = batch["ids"].shape
        x = text.embed_tokens(batch["ids"])
        count = pictures.shape[1]
        # Pictures of frames that are not there go to a row after the last token, which is cut off again.
        places = (batch["picture"][..., None] + torch.arange(count, device=x.device)).clamp(max=tokens)
        x = torch.cat([x, x.new_zeros(samples, 1, x.shape[-1])], 1)
        x = x.scatter(
            1,
            places.flatten(1)[..., None].expand(-1, -1, x.shape[-1]),
            pictures.reshape(samples, -1, x.shape[-1]).to(x.dtype),
        )[:, :-1]
        cos, sin = self._rope(batch["positions"])
        # One question: plain causal attention will do, since padding is at the end.
        mask = self._mask(batch["segment"]) if batch["kind"].shape[1] > 1 else None
        tapped = x
        for number, layer in enumerate(text.layers):
            x = _text_layer(layer, x, cos, sin, mask)
            if number + 1 == TAP:
                tapped = x
        return tapped, x

    def _rope(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = positions[..., None].float() * self.frequencies
        parts = angles.split(self.sections, -1)
        angles = torch.cat([part[axis] for axis, part in enumerate(parts)], -1)
        angles = torch.cat([angles, angles], -1)[:, None]
        return angles.cos(), angles.sin()

    def _mask(self, segment: torch.Tensor) -> torch.Tensor:
        """A token sees the frames and its own question; padding sees itself, so that no row is empty."""
        tokens = torch.arange(segment.shape[1], device=segment.device)
        ask, key = segment[:, :, None], segment[:, None, :]
        seen = ((key == 0) | (key == ask)) & (key >= 0) & (tokens[None, :, None] >= tokens[None, None, :])
        return (seen | (tokens[None, :, None] == tokens[None, None, :]))[:, None]

    def _qwen_pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        visual = self.model.model.visual
        frames, half = len(pixels), _PATCHES // 2
        patches = pixels.view(frames, 3, half, 2, 14, half, 2, 14).permute(0, 2, 5, 3, 6, 1, 4, 7)
        # Both halves of a patch in time hold the same picture.
        weight = visual.patch_embed.proj.weight.sum(2).flatten(1)
        x = F.linear(patches.reshape(frames, _PATCHES**2, -1), weight)
        for block in visual.blocks:
            x = x + self._vision_attention(block.attn, block.norm1(x))
            x = x + block.mlp(block.norm2(x))
        merger = visual.merger
        x = merger.ln_q(x).reshape(frames, half * half, -1)
        return merger.mlp(x)

    def _vision_attention(self, attention: Any, x: torch.Tensor) -> torch.Tensor:
        frames, patches, width = x.shape
        heads = self.model.config.vision_config.num_heads
        q, k, v = attention.qkv(x).view(frames, patches, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k = _rotated(q, self.vision_cos, self.vision_sin), _rotated(k, self.vision_cos, self.vision_sin)
        out = F.scaled_dot_product_attention(q, k, v)
        return attention.proj(out.transpose(1, 2).reshape(frames, patches, width))

    def _llava_pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        model = self.model.model
        tower = getattr(model.vision_tower, "vision_model", model.vision_tower)
        x = tower.embeddings(pixels)
        heads = self.model.config.vision_config.num_attention_heads
        for layer in tower.encoder.layers:
            x = x + _siglip_attention(layer.self_attn, layer.layer_norm1(x), heads)
            x = x + layer.mlp(layer.layer_norm2(x))
        x = model.multi_modal_projector(x)
        return torch.cat([x, model.image_newline.to(x.dtype).expand(len(x), 1, -1)], 1)


def _siglip_attention(attention: Any, x: torch.Tensor, heads: int) -> torch.Tensor:
    frames, patches, width = x.shape
    q, k, v = (
        part(x).view(frames, patches, heads, -1).transpose(1, 2)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    out = F.scaled_dot_product_attention(q, k, v)
    return attention.out_proj(out.transpose(1, 2).reshape(frames, patches, width))


def _text_layer(
    layer: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    samples, tokens, width = x.shape
    attention = layer.self_attn
    y = layer.input_layernorm(x)
    q, k, v = (
        part(y).view(samples, tokens, -1, attention.head_dim).transpose(1, 2)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    x = x + attention.o_proj(out.transpose(1, 2).reshape(samples, tokens, width))
    return x + layer.mlp(layer.post_attention_layernorm(x))


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = x.float().chunk(2, -1)
    return (x.float() * cos + torch.cat([-high, low], -1) * sin).to(x.dtype)


def _vision_rope(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of one picture's patches, ``[patches, head size]``, in the order of its patches."""
    vision = model.config.vision_config
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    size = width // vision.num_heads
    cells = torch.arange(_PATCHES)
    rows = cells.view(_PATCHES // 2, 1, 2, 1).expand(-1, _PATCHES // 2, -1, 2).flatten()
    columns = cells.view(1, _PATCHES // 2, 1, 2).expand(_PATCHES // 2, -1, 2, -1).flatten()
    frequencies = 1.0 / 10000.0 ** (torch.arange(0, size // 2, 2).float() / (size // 2))
    angles = torch.cat([rows[:, None] * frequencies, columns[:, None] * frequencies], -1)
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()
