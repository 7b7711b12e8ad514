"""Why a model answers as it does: where in a photo it found what speaks for a class.

Knows predictors and arrays; nothing of pages or files.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tlapp import backbones
from tlapp.predict import Predictor


def heat_map(predictor: Predictor, photo: np.ndarray, label: int) -> np.ndarray:
    """Grad-CAM (Selvaraju et al., ICCV 2017) on the last block: float32 (crop, crop), 0 to 1, over the plain view.

    The outputs of the last block, weighted by how much each raises the score of class `label`, summed, and cut off
    at 0: what speaks against the class does not show. All 0 where nothing speaks for it.

    Args:
        photo: uint8 (H, W, 3) RGB, as `images.load` gives it.
    """
    model, views = predictor.model, predictor.views
    inputs = views.normalise([views.plain(photo)]).to(model.head.linear.weight.device)
    last, pooled = model.n_blocks - 1, []
    with torch.no_grad():
        x = inputs
        for i, block in enumerate(list(model.blocks.values())[:last]):
            x = block(x)
            if i in model.depths:
                pooled.append(backbones.pool(x))
        outputs = list(model.blocks.values())[last](x)
    with torch.enable_grad():
        outputs = outputs.detach().requires_grad_()
        score = model.head(torch.cat([*pooled, backbones.pool(outputs)], 1))[0, label]
    (gradient,) = torch.autograd.grad(score, outputs)
    heat = (outputs * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    crop = inputs.shape[-1]
    heat = nn.functional.interpolate(heat.detach().float(), (crop, crop), mode="bilinear", align_corners=False)[0, 0]
    return (heat / heat.max().clamp_min(1e-12)).cpu().numpy()
