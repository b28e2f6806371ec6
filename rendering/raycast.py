"""The ray caster: which surface each ray meets, how far away, and what colour is there.

A ray is given by its point (x, y, 1) at depth 1 in the camera's frame, so a pinhole camera, its
sub-pixels and a laser scanner differ only in their x and y. On a flat patch p = o + s u + t v the
depth z and the place (s, t) follow from (s, t, 1) / z = [u v o]^-1 (x, y, 1): three linear
functions of x and y, exact at every ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rendering.scene import Scene

NEAR = 0.05  # metres; nothing is nearer to a camera
LASER_RANGE = 120.0  # metres
CHUNK = 8192  # rays shaded at a time, so that what is computed on the way stays in the cache
# A scanner's axes (x forward, y left, z up) to a camera's (x right, y down, z forward).
CAMERA_AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
SKY_AZIMUTH, SKY_ELEVATION = (-90.0, 90.0), (-10.0, 50.0)  # degrees spanned by a sky's texture


class Rays(NamedTuple):
    """Points (x, y, 1) that broadcast to (h, w); x grows along the columns, y along the rows."""

    x: NDArray[np.float64]  # (1 or h, w)
    y: NDArray[np.float64]  # (h, 1 or w)

    def within(self, box: tuple[slice, slice]) -> Rays:
        """The rays of some rows and columns."""
        rows, columns = box
        return Rays(
            self.x[rows if self.x.shape[0] > 1 else slice(None), columns],
            self.y[rows, columns if self.y.shape[1] > 1 else slice(None)],
        )


class Hits(NamedTuple):
    """What each ray meets first."""

    surface: NDArray[np.int32]  # (h, w), -1 for the sky
    inv_depth: NDArray[np.float64]  # (h, w), 1 / metres, 0 for the sky


class Rendered(NamedTuple):
    """A picture and its truth."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    depth: NDArray[np.float32]  # (H, W) metres along the optical axis; 0 where the sky is seen


def pinhole_rays(
    K: NDArray, height: int, width: int, supersample: int = 1, distortion: Sequence[float] = ()
) -> Rays:
    """Rays of a camera with intrinsics K (3, 3), in pixels whose centres are at whole numbers.

    Every pixel is cut into supersample x supersample equal cells, with a ray through each centre.
    distortion: k1, k2, p1, p2, k3 of the camera's lens, if it has any.
    """
    columns = (np.arange(width * supersample) + 0.5) / supersample - 0.5
    rows = (np.arange(height * supersample) + 0.5) / supersample - 0.5
    rays = Rays(((columns - K[0, 2]) / K[0, 0])[None, :], ((rows - K[1, 2]) / K[1, 1])[:, None])
    return undistorted(rays, distortion) if len(distortion) else rays


def undistorted(seen: Rays, distortion: Sequence[float]) -> Rays:
    """The rays that a lens bends to where they are `seen`: x and y are both (h, w).

    distortion: k1, k2, p1, p2, k3 of Brown's model as OpenCV states it, from a ray to where it is
    seen; inverted by fixed-point iteration, which gains more than a digit a round for lenses as
    weak as a Kinect's.
    """
    k1, k2, p1, p2, k3 = distortion
    x, y = seen = Rays(*np.broadcast_arrays(*seen))
    for _ in range(20):
        square = x * x + y * y
        radial = 1 + square * (k1 + square * (k2 + square * k3))
        shift_x = 2 * p1 * x * y + p2 * (square + 2 * x * x)
        shift_y = p1 * (square + 2 * y * y) + 2 * p2 * x * y
        x, y = (seen.x - shift_x) / radial, (seen.y - shift_y) / radial
    return Rays(x, y)


class View:
    """A scene seen from one place: all that does not depend on the rays."""

    def __init__(self, scene: Scene, world_T_cam: NDArray) -> None:
        """world_T_cam: (4, 4) rigid, takes points of the camera (x right, y down, z forward) to
        the world.
        """
        self.scene = scene
        self.rotation, self.position = world_T_cam[:3, :3], world_T_cam[:3, 3]
        u, v = scene.edges_u @ self.rotation, scene.edges_v @ self.rotation
        o = (scene.origins - self.position) @ self.rotation
        frames = np.stack([u, v, o], axis=-1)  # (P, 3, 3)
        volumes = np.einsum("pi,pi->p", np.cross(u, v), o)
        corners = np.stack([o, o + u, o + u + v, o + v], axis=1)  # (P, 4, 3)
        facing = np.flatnonzero((volumes < -1e-9) & (corners[..., 2].max(axis=1) > NEAR))
        self.homographies = np.zeros_like(frames)
        self.homographies[facing] = np.linalg.inv(frames[facing])
        self.patch_boxes = _projected_boxes(corners)
        self.largest = 1 / np.maximum(corners[..., 2].min(axis=1), NEAR)  # inverse depth
        self.front_to_back = facing[np.argsort(-self.largest[facing], kind="stable")]
        signs = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
        around = scene.centres[:, None] + signs * scene.radii[:, None] - self.position
        self.ellipsoid_boxes = _projected_boxes(around @ self.rotation)

    def cast(self, rays: Rays) -> Hits:
        """The first surface along every ray, and its inverse depth."""
        shape = np.broadcast_shapes(rays.x.shape, rays.y.shape)
        hits = Hits(np.full(shape, -1, np.int32), np.zeros(shape, rays.x.dtype))
        boxes = _slices(self.patch_boxes[self.front_to_back], rays)
        for index, box in zip(self.front_to_back.tolist(), boxes, strict=True):
            if box is not None and self.largest[index] > hits.inv_depth[box].min():
                self._cast_patch(index, rays, box, hits)
        first = len(self.scene.tapers)
        for index, box in enumerate(_slices(self.ellipsoid_boxes, rays)):
            if box is not None:
                self._cast_ellipsoid(index, rays, box, hits, first + index)
        return hits

    def _cast_patch(self, index: int, rays: Rays, box: tuple[slice, slice], hits: Hits) -> None:
        """Write a patch into `hits` where it is the nearest so far."""
        x, y = rays.within(box)
        (sx, sy, s1), (tx, ty, t1), (qx, qy, q1) = self.homographies[index].tolist()
        q = qx * x + (qy * y + q1)  # 1 / depth; s and t below are divided by the depth as well
        nearest = hits.inv_depth[box]
        hit = q > nearest
        if not hit.any():
            return
        t = tx * x + (ty * y + t1)
        hit &= (t >= 0) & (t <= q)
        side = (2 * sx - qx) * x + ((2 * sy - qy) * y + (2 * s1 - q1))
        hit &= np.abs(side) <= q - self.scene.tapers[index] * t
        np.copyto(nearest, q, where=hit)
        np.copyto(hits.surface[box], index, where=hit)

    def _cast_ellipsoid(
        self, index: int, rays: Rays, box: tuple[slice, slice], hits: Hits, surface: int
    ) -> None:
        """Write an ellipsoid into `hits` where it is the nearest so far."""
        x, y = rays.within(box)
        radii = self.scene.radii[index]
        start = (self.position - self.scene.centres[index]) / radii
        turn = self.rotation / radii[:, None]  # rays in a frame where the ellipsoid is a unit ball
        d = [turn[k, 0] * x + (turn[k, 1] * y + turn[k, 2]) for k in range(3)]
        # |start + z d| = 1, divided by z^2: the nearer root in z is the larger one in q = 1 / z.
        c = start @ start - 1
        b = start[0] * d[0] + start[1] * d[1] + start[2] * d[2]
        a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        root = b * b - a * c
        q = (np.sqrt(np.maximum(root, 0)) - b) / c
        nearest = hits.inv_depth[box]
        hit = (root > 0) & (q > nearest) & (c > 0)
        np.copyto(nearest, q, where=hit)
        np.copyto(hits.surface[box], surface, where=hit)

    def shade(
        self, surface: NDArray, inv_depth: NDArray, x: NDArray, y: NDArray, pixel: NDArray
    ) -> NDArray[np.float64]:
        """RGB (N, 3), 0 to 255, seen along rays (x, y, 1), N each.

        pixel: (2,) width and height of the rays' footprint at depth 1, over which texture is
        averaged.
        """
        colours = np.empty((len(x), 3))
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            colours[part] = self._shade_chunk(
                surface[part], inv_depth[part], x[part], y[part], pixel
            )
        return colours

    def _shade_chunk(
        self, surface: NDArray, inv_depth: NDArray, x: NDArray, y: NDArray, pixel: NDArray
    ) -> NDArray[np.float64]:
        """`shade` for few rays."""
        scene = self.scene
        texture, light = scene.textures[surface], scene.tints[surface]
        low, high = scene.lows[surface].T, scene.highs[surface].T
        centre, extent = np.empty((2, len(x))), np.empty((2, len(x)))
        patches = len(scene.tapers)
        flat = np.flatnonzero((surface >= 0) & (surface < patches))
        sky = np.flatnonzero(surface < 0)
        ball = np.flatnonzero(surface >= patches)
        centre[:, flat], extent[:, flat] = self._patch_texels(
            surface[flat], x[flat], y[flat], pixel
        )
        centre[:, sky], extent[:, sky] = self._sky_texels(x[sky], y[sky], pixel, high[:, sky])
        centre[:, ball], extent[:, ball], shine = self._ellipsoid_texels(
            surface[ball] - patches, x[ball], y[ball], inv_depth[ball], pixel, high[:, ball]
        )
        light[ball] *= shine[:, None]
        return np.clip(light * scene.bank.mean(texture, centre, extent, low, high), 0, 255)

    def _patch_texels(
        self, patch: NDArray, x: NDArray, y: NDArray, pixel: NDArray
    ) -> tuple[NDArray, NDArray]:
        """Centre and extent (2, N), in texels, of what the footprints cover."""
        h = self.homographies.reshape(-1, 9).T[:, patch].reshape(3, 3, -1)
        s, t, q = h[:, 0] * x + h[:, 1] * y + h[:, 2]
        place = np.stack([s, t]) / q
        # The derivative of s = S / q by x is (S_x - s q_x) / q, with S and q linear in x and y.
        by_x, by_y = (h[:2, k] - place * h[2, k] for k in (0, 1))
        window = self.scene.windows.T[:, patch]
        span = window[2:] - window[:2]
        extent = np.hypot(by_x * pixel[0], by_y * pixel[1]) * np.abs(span / q)
        return window[:2] + place * span, extent

    def _sky_texels(
        self, x: NDArray, y: NDArray, pixel: NDArray, sizes: NDArray
    ) -> tuple[NDArray, NDArray]:
        """Centre and extent (2, N) of the sky's texels, sizes (2, N)."""
        right, down, forward = self.rotation @ np.stack([x, y, np.ones_like(x)])
        azimuth = np.degrees(np.arctan2(right, forward))
        elevation = np.degrees(np.arctan2(-down, np.hypot(right, forward)))
        texels = sizes / [[np.ptp(SKY_AZIMUTH)], [np.ptp(SKY_ELEVATION)]]  # in a degree
        place = np.stack([azimuth - SKY_AZIMUTH[0], elevation - SKY_ELEVATION[0]])
        return place * texels, np.degrees(pixel)[:, None] * texels

    def _ellipsoid_texels(
        self, number: NDArray, x: NDArray, y: NDArray, inv_depth: NDArray, pixel: NDArray,
        sizes: NDArray,
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Centre and extent (2, N) of an ellipsoid's texels, sizes (2, N), and its light, (N,)."""
        centres, radii = self.scene.centres[number], self.scene.radii[number]
        ray = np.stack([x, y, np.ones_like(x)], axis=1) @ self.rotation.T
        ball = (self.position + ray / inv_depth[:, None] - centres) / radii  # on the unit sphere
        normals = ball / radii
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        around = np.arctan2(ball[:, 0], -ball[:, 2]) / (2 * np.pi) + 0.5  # the seam faces +z
        up = np.arcsin(np.clip(-ball[:, 1], -1, 1)) / np.pi + 0.5
        slant = np.abs(np.einsum("ni,ni->n", ray, normals)) / np.linalg.norm(ray, axis=1)
        angle = pixel[:, None] / (inv_depth * radii.mean(axis=1) * np.maximum(slant, 0.3))
        extent = angle / [[2 * np.pi], [np.pi]] * sizes
        return np.stack([around, up]) * sizes, extent, self.scene.light(normals)


def render(
    scene: Scene,
    world_T_cam: NDArray,
    K: NDArray,
    height: int,
    width: int,
    supersample: int = 2,
    distortion: Sequence[float] = (),
) -> Rendered:
    """The picture a camera takes and its exact depth at pixel centres.

    world_T_cam: (4, 4) rigid, camera to world; K: (3, 3) intrinsics in pixels, pixel centres at
    whole numbers. Texture is averaged over each pixel's footprint; a pixel in which more than one
    surface is seen takes the mean of supersample x supersample rays. supersample 1 casts one ray a
    pixel, at its centre. distortion: k1, k2, p1, p2, k3 of the lens, if it has any.
    """
    view = View(scene, world_T_cam)
    rays = pinhole_rays(K, height, width, distortion=distortion)
    hits = view.cast(rays)
    pixel = 1 / np.array([K[0, 0], K[1, 1]])
    x, y = (np.broadcast_to(r, (height, width)).ravel() for r in rays)
    surface, inv_depth = hits.surface.ravel(), hits.inv_depth.ravel()
    mixed = np.zeros(height * width, bool)
    if supersample > 1:
        fine_rays = pinhole_rays(K, height, width, supersample, distortion)
        # Single precision decides well enough which surface a sub-pixel sees, in half the time.
        fine_rays = Rays(*(r.astype(np.float32) for r in fine_rays))
        fine = view.cast(fine_rays)
        cells = _cells(fine.surface, supersample)
        mixed = (cells != surface[:, None]).any(axis=1)
    colour = np.empty((height * width, 3))
    plain = ~mixed
    colour[plain] = view.shade(surface[plain], inv_depth[plain], x[plain], y[plain], pixel)
    if mixed.any():
        fine_x, fine_y = (np.broadcast_to(r, fine.surface.shape) for r in fine_rays)
        parts = [_cells(a, supersample)[mixed].ravel()
                 for a in (fine.surface, fine.inv_depth, fine_x, fine_y)]
        shades = view.shade(*parts, pixel / supersample)
        colour[mixed] = shades.reshape(-1, supersample**2, 3).mean(axis=1)
    image = np.rint(colour).astype(np.uint8).reshape(height, width, 3)
    depth = np.zeros_like(hits.inv_depth)
    np.divide(1, hits.inv_depth, out=depth, where=hits.surface >= 0)
    return Rendered(image, depth.astype(np.float32))


def scan(scene: Scene, world_T_laser: NDArray) -> NDArray[np.float32]:
    """A sweep of a laser scanner with 64 rings over the 100 degrees before it.

    world_T_laser: (4, 4) rigid, from the scanner's axes (x forward, y left, z up) to the world.
    Returns (N, 4): x, y, z in metres in the scanner's axes and reflectance in 0 to 1, ring after
    ring; rays that meet nothing within LASER_RANGE are left out.
    """
    world_T_cam = world_T_laser.copy()
    world_T_cam[:3, :3] = world_T_laser[:3, :3] @ CAMERA_AXES.T
    azimuth = np.radians(np.linspace(-50, 50, 251))[None, :]  # to the right
    elevation = np.radians(np.linspace(2.0, -24.8, 64))[:, None]
    rays = Rays(np.tan(azimuth), -np.tan(elevation) / np.cos(azimuth))
    hits = View(scene, world_T_cam).cast(rays)
    x, y = (np.broadcast_to(r, hits.surface.shape) for r in rays)
    direction = np.stack([np.ones_like(x), -x, -y], axis=-1)
    length = np.linalg.norm(direction, axis=-1)
    seen = hits.inv_depth * LASER_RANGE > length
    points = direction[seen] / hits.inv_depth[seen][:, None]
    surface = hits.surface[seen]
    colour = scene.tints[surface] * scene.bank.means[scene.textures[surface]]
    reflectance = np.clip(colour.mean(axis=1) / 255, 0, 1)
    return np.concatenate([points, reflectance[:, None]], axis=1).astype(np.float32)


def _cells(fine: NDArray, factor: int) -> NDArray:
    """(H factor, W factor) to (H W, factor^2): the sub-pixels of every pixel."""
    height, width = fine.shape[0] // factor, fine.shape[1] // factor
    cells = fine.reshape(height, factor, width, factor).swapaxes(1, 2)
    return cells.reshape(height * width, factor * factor)


def _projected_boxes(corners: NDArray) -> NDArray:
    """Boxes (N, 4) x0, x1, y0, y1 at depth 1 around convex hulls of corners (N, C, 3) of a camera.

    What is nearer than NEAR is cut off; x1 < x0 where nothing remains.
    """
    z = corners[..., 2]
    # Cutting between all pairs of corners cuts every edge, and stays inside the hull.
    i, j = np.triu_indices(corners.shape[1], 1)
    crossing = (z[:, i] < NEAR) != (z[:, j] < NEAR)
    share = (NEAR - z[:, i]) / np.where(crossing, z[:, j] - z[:, i], 1)
    cuts = corners[:, i] + share[..., None] * (corners[:, j] - corners[:, i])
    points = np.concatenate([corners, cuts], axis=1)
    valid = np.concatenate([z >= NEAR, crossing], axis=1)[..., None]
    flat = points[..., :2] / np.where(valid, points[..., 2:], 1)
    low = np.where(valid, flat, np.inf).min(axis=1, initial=np.inf)
    high = np.where(valid, flat, -np.inf).max(axis=1, initial=-np.inf)
    return np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)


def _slices(boxes: NDArray, rays: Rays) -> list[tuple[slice, slice] | None]:
    """For each box, the rows and columns of rays that may pass through it, or None."""
    top = np.searchsorted(rays.y.max(axis=1), boxes[:, 2], "left").tolist()
    bottom = np.searchsorted(rays.y.min(axis=1), boxes[:, 3], "right").tolist()
    left = np.searchsorted(rays.x.max(axis=0), boxes[:, 0], "left").tolist()
    right = np.searchsorted(rays.x.min(axis=0), boxes[:, 1], "right").tolist()
    return [
        (slice(t, b), slice(lo, hi)) if t < b and lo < hi else None
        for t, b, lo, hi in zip(top, bottom, left, right, strict=True)
    ]
