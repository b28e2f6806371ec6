"""One training step as one module: networks, views and objective, from a batch to named terms.

Being one module, it is wrapped in DistributedDataParallel once, and its forward is the whole step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from augmentations import color_jitter_each, reshuffle
from datasets.keys import FrameKey
from layers import transformation_from_parameters
from losses import Frames, Objective, Terms, View, in_order
from networks import DepthDecoder, DepthNetwork, PoseNetwork
from view_synthesis import crop_camera, crop_motion

Pictures = dict[tuple[int | str, int], Tensor]  # (frame, scale) to (B, 3, H / 2**s, W / 2**s)


@dataclass
class Inputs:
    """A batch ready for the networks: float pictures in [0, 1] and what was drawn for them.

    full, local: un-jittered pictures for the loss; the jittered ones are what networks see:
    `jittered` by frame at full size, the other two the target's extra views. crop: float64 (B, 5);
    cut: (B, 2); stereo_T: (B, 4, 4), the target's points seen by the stereo partner.
    """

    full: Pictures
    jittered: dict[int, Tensor]
    K: Tensor
    inv_K: Tensor
    local: Pictures | None = None
    local_jittered: Tensor | None = None
    reshuffled_jittered: Tensor | None = None
    crop: Tensor | None = None
    cut: Tensor | None = None
    stereo_T: Tensor | None = None


def prepare(batch: Mapping) -> Inputs:
    """From a collated batch of uint8 pictures to `Inputs`, on the batch's device.

    Colour jitter and the reshuffle happen here, for the whole batch at once.
    """
    full = _pictures(batch, "color")
    local = _pictures(batch, "color_local") or None
    seen = {("full", frame): full[frame, 0] for frame, scale in full if scale == 0 and frame != "s"}
    if local is not None:
        seen["local", 0] = local[0, 0]
    jittered = seen
    if "jitter" in batch:
        changed = color_jitter_each(list(seen.values()), batch["jitter"])
        jittered = dict(zip(seen, changed, strict=True))
    cut = batch.get("cut")
    target = jittered["full", 0]
    return Inputs(
        full=full,
        jittered={frame: image for (view, frame), image in jittered.items() if view == "full"},
        K=batch["K"],
        inv_K=batch["inv_K"],
        local=local,
        local_jittered=jittered.get(("local", 0)),
        reshuffled_jittered=None if cut is None else reshuffle(target, cut),
        crop=batch.get("crop"),
        cut=cut,
        stereo_T=batch.get("stereo_T"),
    )


def _pictures(batch: Mapping, kind: str) -> Pictures:
    """All pictures of one kind as floats in [0, 1], in the order of the batch."""
    return {
        (key.frame, key.scale): image / 255  # float32, without another copy in between
        for key, image in batch.items()
        if isinstance(key, FrameKey) and key.kind == kind
    }


class TrainingStep(nn.Module):
    """The networks and the objective they are trained on.

    frame_ids: 0, then the sources, "s" the stereo partner. pose_input: "pairs" (each source with
    the target) or "all" (every frame at once). mask_decoder: the second decoder of
    --predictive_mask, one output a source. No pose network is needed where "s" is the only source.
    amp_type: what the networks compute in, None: float32, as everything else does always.
    """

    def __init__(
        self,
        depth_network: DepthNetwork,
        pose_network: PoseNetwork | None,
        objective: Objective,
        frame_ids: Sequence[int | str],
        pose_input: str = "pairs",
        mask_decoder: DepthDecoder | None = None,
        amp_type: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.depth_network = depth_network
        self.pose_network = pose_network
        self.mask_decoder = mask_decoder
        self.objective = objective
        self.frame_ids = tuple(frame_ids)
        self.pose_input = pose_input
        self.amp_type = amp_type

    def parts(self) -> dict[str, nn.Module]:
        """The networks under their names in a checkpoint, in the optimiser's order."""
        parts = dict(self.depth_network.parts())
        if self.pose_network is not None:
            parts |= self.pose_network.parts()
        if self.mask_decoder is not None:
            parts["predictive_mask"] = self.mask_decoder
        return parts

    def forward(self, batch: Mapping) -> tuple[Terms, dict[str, Tensor]]:
        """Named terms of the loss (scalars, `loss` among them) and pictures of the full view."""
        terms, views, pictures = self.score(prepare(batch))
        terms = {"loss": self.objective.total(terms)} | terms
        disp = views["full"].upsampled_disp(0).detach()
        return terms, pictures["full"] | {"disp": disp}

    def score(self, inputs: Inputs) -> tuple[Terms, dict[str, View], dict[str, dict[str, Tensor]]]:
        """Predict and score every view that the inputs hold.

        Returns terms named `<view>/<term>`, the views, and each view's pictures.
        """
        views = self.views(inputs)
        terms, pictures = self.objective.score(views, inputs.crop)
        return terms, views, pictures

    def views(self, inputs: Inputs) -> dict[str, View]:
        """Run the networks: each view of the target on its own (batch norm sees each alone)."""
        size = inputs.full[0, 0].shape[-2:]
        src_T_tgt = self.motions(inputs)
        frames = self._frames(inputs.full, inputs)
        disp, mask = self._predict(inputs.jittered[0])
        views = {"full": View(frames, disp, src_T_tgt, mask)}
        if inputs.local is not None:
            disp, mask = self._predict(inputs.local_jittered)
            Rc = crop_camera(inputs.crop, inputs.K, *size)
            motion = crop_motion(src_T_tgt, Rc)
            views["local"] = View(self._frames(inputs.local, inputs), disp, motion, mask)
        if inputs.reshuffled_jittered is not None:
            disp, mask = self._predict(inputs.reshuffled_jittered)
            disp = in_order(disp, inputs.cut, size)
            mask = None if mask is None else in_order(mask, inputs.cut, size)
            views["reshuffled"] = View(frames, disp, src_T_tgt, mask)
        return views

    def motions(self, inputs: Inputs) -> Tensor:
        """src_T_tgt of every source, (B, N, 4, 4), in the order of frame_ids."""
        frames = [frame for frame in self.frame_ids if frame != "s"]
        motions: dict[int | str, Tensor] = {"s": inputs.stereo_T}
        if self.pose_input == "all" and len(frames) > 1:
            axis_angle, translation = self._motion([inputs.jittered[f] for f in frames])
            for i, frame in enumerate(frames[1:]):
                motions[frame] = transformation_from_parameters(
                    axis_angle[:, i, 0], translation[:, i, 0]
                )
        else:
            for frame in frames[1:]:
                motions[frame] = self._pair_motion(inputs.jittered, frame)
        return torch.stack([motions[frame] for frame in self.frame_ids[1:]], 1)

    def _pair_motion(self, images: Mapping[int, Tensor], frame: int) -> Tensor:
        """The pose network sees a pair in temporal order; inverted for a source before."""
        pair = [images[min(frame, 0)], images[max(frame, 0)]]
        axis_angle, translation = self._motion(pair)
        return transformation_from_parameters(
            axis_angle[:, 0, 0], translation[:, 0, 0], invert=frame < 0
        )

    def _motion(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What the pose network says of some frames: axis-angle and translation."""
        with self._autocast(images[0].device):
            return self.pose_network(images)

    def _autocast(self, device: torch.device) -> torch.autocast:
        """Around networks alone: geometry, SSIM and depths need float32."""
        return torch.autocast(device.type, self.amp_type, enabled=self.amp_type is not None)

    def _predict(self, image: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor] | None]:
        """Disparity (and predictive mask) at every scale of one picture."""
        with self._autocast(image.device):
            features = self.depth_network.encoder(image)
            disp = self.depth_network.depth(features)
            return disp, None if self.mask_decoder is None else self.mask_decoder(features)

    def _frames(self, pictures: Pictures, inputs: Inputs) -> Frames:
        target = {scale: image for (frame, scale), image in pictures.items() if frame == 0}
        scales = sorted({scale for frame, scale in pictures if frame == self.frame_ids[1]})
        sources = {
            scale: torch.stack([pictures[frame, scale] for frame in self.frame_ids[1:]], 1)
            for scale in scales
        }
        return Frames(target, sources, inputs.K, inputs.inv_K)
