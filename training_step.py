"""One training step as one module: networks, views and objective, from a batch to named terms.

Being one module, it is wrapped in DistributedDataParallel once, and its forward is the whole step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from augmentations import color_jitter_each, reshuffle
from datasets.keys import FrameKey
from layers import camera_matrices, inverse_motion, transformation_from_parameters
from losses import Frames, Objective, Terms, View, in_order
from networks import ClipCameras, DepthDecoder, DepthNetwork, FrameCamera, PoseNetwork
from view_synthesis import crop_camera, crop_motion

Pictures = dict[tuple[int | str, int], Tensor]  # (frame, scale) to (B, 3, H / 2**s, W / 2**s)


@dataclass
class Inputs:
    """A batch ready for the networks: float pictures in [0, 1] and what was drawn for them.

    full, local: un-jittered pictures for the loss; the jittered ones are what networks see:
    `jittered` by frame at full size, the other two the target's extra views. crop: float64 (B, 5);
    cut: (B, 2); stereo_T: (B, 4, 4), the target's points seen by the stereo partner. K, inv_K:
    (B, 4, 4), None until they are learned; clip, flip: (B,), for cameras that are.
    """

    full: Pictures
    jittered: dict[int, Tensor]
    K: Tensor | None
    inv_K: Tensor | None
    local: Pictures | None = None
    local_jittered: Tensor | None = None
    reshuffled_jittered: Tensor | None = None
    crop: Tensor | None = None
    cut: Tensor | None = None
    stereo_T: Tensor | None = None
    clip: Tensor | None = None
    flip: Tensor | None = None


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
        K=batch.get("K"),
        inv_K=batch.get("inv_K"),
        local=local,
        local_jittered=jittered.get(("local", 0)),
        reshuffled_jittered=None if cut is None else reshuffle(target, cut),
        crop=batch.get("crop"),
        cut=cut,
        stereo_T=batch.get("stereo_T"),
        clip=batch.get("clip"),
        flip=batch.get("flip"),
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
    checkpoint_activations: keep no map of the decoders, which are computed again on the way back.
    camera: learns the cameras, in place of those that the data set knows.
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
        checkpoint_activations: bool = False,
        camera: ClipCameras | FrameCamera | None = None,
    ) -> None:
        super().__init__()
        self.depth_network = depth_network
        self.pose_network = pose_network
        self.mask_decoder = mask_decoder
        self.camera = camera
        self.objective = objective
        self.frame_ids = tuple(frame_ids)
        self.pose_input = pose_input
        self.amp_type = amp_type
        self.checkpoint_activations = checkpoint_activations

    def parts(self) -> dict[str, nn.Module]:
        """The networks under their names in a checkpoint, in the optimiser's order."""
        parts = dict(self.depth_network.parts())
        if self.pose_network is not None:
            parts |= self.pose_network.parts()
        if self.mask_decoder is not None:
            parts["predictive_mask"] = self.mask_decoder
        if self.camera is not None:
            parts["intrinsics"] = self.camera
        return parts

    def forward(self, batch: Mapping) -> tuple[Terms, dict[str, Tensor]]:
        """Named terms of the loss (scalars, `loss` among them; and of a learned camera) and
        pictures of the full view."""
        terms, views, pictures = self.score(prepare(batch))
        terms = {"loss": self.objective.total(terms)} | terms
        if self.camera is not None:
            terms |= camera_terms(views["full"], batch["flip"], self.frame_ids[1:])
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
        features: list[Tensor] | None = None if self.camera is None else []
        src_T_tgt = self.motions(inputs, features)
        if self.camera is not None:
            cameras = self.camera(features, inputs.clip, inputs.flip)
            K, inv_K = camera_matrices(cameras, *size)
            inputs = replace(inputs, K=K, inv_K=inv_K)
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

    def motions(self, inputs: Inputs, features: list[Tensor] | None = None) -> Tensor:
        """src_T_tgt of every source, (B, N, 4, 4), in the order of frame_ids.

        features: takes up the pose encoder's deepest ones, (B, C, h, w) of each pass.
        """
        frames = [frame for frame in self.frame_ids if frame != "s"]
        motions: dict[int | str, Tensor] = {"s": inputs.stereo_T}
        if len(frames) > 1:
            if self.pose_input == "all":
                seen = [inputs.jittered[frame] for frame in frames]
                axis_angle, translation = self._motion(seen, features)
                axis_angle, translation = axis_angle[:, :, 0], translation[:, :, 0]
            else:
                said = [self._pair_motion(inputs.jittered, f, features) for f in frames[1:]]
                axis_angle, translation = (torch.stack(each, 1) for each in zip(*said, strict=True))
            found = transformation_from_parameters(axis_angle, translation)
            motions |= dict(zip(frames[1:], found.unbind(1), strict=False))
        if self.pose_input == "pairs":
            for frame in motions.keys() - {"s"}:
                if frame < 0:
                    motions[frame] = inverse_motion(motions[frame])
        return torch.stack([motions[frame] for frame in self.frame_ids[1:]], 1)

    def _pair_motion(
        self, images: Mapping[int, Tensor], frame: int, features: list[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """What the pose network says of a pair in temporal order, each (B, 3): for a source before
        the target it is the way back."""
        pair = [images[min(frame, 0)], images[max(frame, 0)]]
        axis_angle, translation = self._motion(pair, features)
        return axis_angle[:, 0, 0], translation[:, 0, 0]

    def _motion(
        self, images: Sequence[Tensor], features: list[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """What the pose network says of some frames: axis-angle and translation."""
        with self._autocast(images[0].device):
            extra = () if features is None else (features,)
            return self.pose_network(images, *extra)

    def _autocast(self, device: torch.device) -> torch.autocast:
        """Around networks alone: geometry, SSIM and depths need float32."""
        return torch.autocast(device.type, self.amp_type, enabled=self.amp_type is not None)

    def _predict(self, image: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor] | None]:
        """Disparity (and predictive mask) at every scale of one picture."""
        with self._autocast(image.device):
            features = self.depth_network.encoder(image)
            disp = self._decode(self.depth_network.depth, features)
            mask = None if self.mask_decoder is None else self._decode(self.mask_decoder, features)
            return disp, mask

    def _decode(self, decoder: DepthDecoder, features: Sequence[Tensor]) -> dict[int, Tensor]:
        if not self.checkpoint_activations:
            return decoder(features)
        # Decoders have neither batch norm, which would count a batch twice, nor dropout.
        return checkpoint(decoder, features, use_reentrant=False, preserve_rng_state=False)

    def _frames(self, pictures: Pictures, inputs: Inputs) -> Frames:
        target = {scale: image for (frame, scale), image in pictures.items() if frame == 0}
        scales = sorted({scale for frame, scale in pictures if frame == self.frame_ids[1]})
        sources = {
            scale: torch.stack([pictures[frame, scale] for frame in self.frame_ids[1:]], 1)
            for scale in scales
        }
        return Frames(target, sources, inputs.K, inputs.inv_K)


def camera_terms(view: View, flip: Tensor, sources: Sequence[int | str]) -> Terms:
    """What is known of the cameras of a batch, means over samples, for people.

    `camera/fx` and so on: of pictures as they were before those where flip (B,), bool, is true were
    mirrored, in pixels of their size; `camera/yaw` and `camera/pitch`: degrees, of whatever sign,
    between the target and a source that is not the stereo partner.
    """
    K, width = view.frames.K.detach(), view.frames.target[0].shape[-1]
    cx = torch.where(flip, width - K[:, 0, 2], K[:, 0, 2])
    moving = len(sources) - ("s" in sources)  # the partner comes last
    turn = view.src_T_tgt.detach()[:, :moving, :3, :3].clamp(-1, 1).asin().abs().rad2deg()
    values = {"fx": K[:, 0, 0], "fy": K[:, 1, 1], "cx": cx, "cy": K[:, 1, 2]}
    values |= {"yaw": turn[:, :, 0, 2], "pitch": turn[:, :, 2, 1]}
    return {f"camera/{name}": value.mean() for name, value in values.items()}
