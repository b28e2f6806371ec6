"""The renderer against answers known from outside: closed forms, shifts, warps with true depth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, minimum_filter

from datasets.kitti_dataset import NOMINAL_INTRINSICS
from kitti_utils import generate_depth_map
from rendering import (
    CAMERA_HEIGHT,
    STEREO_BASELINE,
    Ellipsoid,
    Faces,
    Patch,
    Scene,
    Street,
    drive_poses,
    frustum,
    nominal_intrinsics,
    render,
    scan,
)
from rendering.kitti_raw import LASER_IN_CAMERA, calibration
from rendering.raycast import CAMERA_AXES

HEIGHT, WIDTH = 48, 96
K = np.array([[80.0, 0.0, 47.3], [0.0, 90.0, 23.1], [0.0, 0.0, 1.0]])
CAM_T_LASER = np.block([[CAMERA_AXES, LASER_IN_CAMERA[:, None]], [np.eye(4)[3]]])


@pytest.fixture(scope="module")
def street():
    return Street(3, length=60)


def texture(seed=0, size=64):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def scene_of(*surfaces, textures=None):
    patches = [s for s in surfaces if isinstance(s, Patch)]
    balls = [s for s in surfaces if isinstance(s, Ellipsoid)]
    return Scene(patches, balls, textures or [texture()], sky=0)


def wall(z, left=-100.0, right=100.0, bottom=100.0, top=-100.0, **more):
    """A wall that faces a camera at the origin."""
    return Patch((left, bottom, z), (right - left, 0, 0), (0, top - bottom, 0), 0, **more)


def camera(x=0.0, y=0.0, z=0.0, pitch=0.0, yaw=0.0):
    """world_T_cam; pitch looks up, yaw to the right, both in radians."""
    cos, sin = np.cos(pitch), np.sin(pitch)
    up = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    cos, sin = np.cos(yaw), np.sin(yaw)
    right = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = right @ up, (x, y, z)
    return pose


def pixel_grid(height=HEIGHT, width=WIDTH):
    return np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float))


def test_the_depth_of_a_ground_plane_is_its_closed_form():
    ground = Patch((-500, 0, -500), (1000, 0, 0), (0, 0, 1000), 0)
    pitch, height = -0.3, 1.65
    depth = render(scene_of(ground), camera(y=-height, pitch=pitch), K, HEIGHT, WIDTH).depth
    _, v = pixel_grid()
    # A ray (x, y, 1) falls by y cos + sin(-pitch) per metre of depth.
    expected = height / ((v - K[1, 2]) / K[1, 1] * np.cos(pitch) - np.sin(pitch))
    seen = (expected > 0) & (expected < 100)
    assert seen.mean() > 0.9
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=1e-6)


def test_the_depth_of_a_wall_seen_aslant_is_its_closed_form():
    yaw, distance = 0.4, 7.0
    depth = render(scene_of(wall(distance)), camera(yaw=yaw), K, HEIGHT, WIDTH).depth
    u, _ = pixel_grid()
    expected = distance / (np.cos(yaw) - (u - K[0, 2]) / K[0, 0] * np.sin(yaw))
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_a_walls_corners_are_where_they_project():
    left, right, bottom, top, z = -1.3, 2.1, 0.9, -1.1, 6.0
    depth = render(scene_of(wall(z, left, right, bottom, top)), camera(), K, HEIGHT, WIDTH).depth
    u, v = pixel_grid()
    x, y = (u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    np.testing.assert_array_equal(depth, np.where(inside, np.float32(z), 0))


def test_a_gable_is_a_triangle():
    gable = wall(5.0, -2.0, 2.0, 1.0, -1.0, taper=1.0)
    depth = render(scene_of(gable), camera(), K, HEIGHT, WIDTH).depth
    u, v = pixel_grid()
    x, y = (u - K[0, 2]) / K[0, 0] * 5, (v - K[1, 2]) / K[1, 1] * 5
    inside = (y <= 1) & (np.abs(x) <= y + 1)
    np.testing.assert_array_equal(depth > 0, inside)


def test_a_balls_depth_and_outline():
    radius, distance = 1.5, 6.0
    ball = Ellipsoid((0, 0, distance), (radius,) * 3, 0)
    depth = render(scene_of(ball), camera(), K, HEIGHT, WIDTH).depth
    u, v = pixel_grid()
    ray = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)])
    along = ray[2] * distance / np.linalg.norm(ray, axis=0)  # of the centre, on the unit ray
    squared = radius**2 - (distance**2 - along**2)
    np.testing.assert_array_equal(depth > 0, squared > 0)
    seen = squared > 0
    expected = (along - np.sqrt(np.maximum(squared, 0))) / np.linalg.norm(ray, axis=0)
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearest_surface_hides_what_is_behind_it(order):
    surfaces = [wall(9.0), wall(4.0, -1.0, 1.0, 1.0, -1.0)][::order]
    depth = render(scene_of(*surfaces), camera(), K, HEIGHT, WIDTH).depth
    assert set(np.unique(depth)) == {np.float32(4), np.float32(9)}


def test_a_box_shows_the_faces_that_face_the_camera():
    box = frustum((0, 1, 10), (2, 2), (2, 2), 2.0, Faces(0, 0, 0))
    depth = render(scene_of(*box), camera(), K, HEIGHT, WIDTH).depth
    assert set(np.unique(depth)) == {np.float32(0), np.float32(9)}
    from_behind = render(scene_of(*box), camera(z=20, yaw=np.pi), K, HEIGHT, WIDTH).depth
    assert set(np.unique(from_behind.round(4))) == {np.float32(0), np.float32(9)}


def test_a_whole_pixels_disparity_shifts_the_picture_byte_for_byte():
    shift = 6
    scene = scene_of(wall(K[0, 0] * STEREO_BASELINE / shift, -5, 5, 5, -5))
    left = render(scene, camera(), K, HEIGHT, WIDTH).image
    right = render(scene, camera(x=STEREO_BASELINE), K, HEIGHT, WIDTH).image
    np.testing.assert_array_equal(left[:, shift:], right[:, :-shift])


def test_texture_finer_than_a_pixel_is_averaged_not_aliased():
    chequered = np.zeros((400, 400, 3), np.uint8)
    chequered[::2, ::2] = chequered[1::2, 1::2] = 200
    scene = scene_of(wall(50.0, -200, 200, 200, -200), textures=[chequered])
    brightness = scene.tints[0, 0]  # of a wall that the sun strikes at this angle
    image = render(scene, camera(), K * [[0.1], [0.1], [1]], 24, 24).image
    assert np.abs(image - 100.0 * brightness).max() < 4


def test_a_texture_seen_texel_by_texel_is_the_texture():
    texels = texture(size=32)
    scene = Scene([wall(1.0, -16, 16, 16, -16)], [], [texels], sky=0, sun=(0, 0, 1))
    one_to_one = np.array([[1.0, 0, 15.5], [0, 1.0, 15.5], [0, 0, 1.0]])
    image = render(scene, camera(), one_to_one, 32, 32).image
    np.testing.assert_allclose(image, texels[::-1] * scene.tints[0], atol=0.51)


def test_supersampling_softens_edges_and_nothing_else():
    white = [np.full((8, 8, 3), 250, np.uint8), np.zeros((8, 8, 3), np.uint8)]
    scene = Scene([wall(6.0, -1.3, 2.1, 0.9, -1.1)], [], white, sky=1)
    hard = render(scene, camera(), K, HEIGHT, WIDTH, supersample=1)
    soft = render(scene, camera(), K, HEIGHT, WIDTH, supersample=4)
    np.testing.assert_array_equal(hard.depth, soft.depth)
    assert len(np.unique(hard.image)) == 2
    changed = (hard.image != soft.image).any(axis=2)
    edge = minimum_filter(hard.depth, 3) != -minimum_filter(-hard.depth, 3)
    assert changed.any()
    assert not (changed & ~edge).any()
    # The picture's sum is the wall's projected area times its brightness.
    area = K[0, 0] * 3.4 / 6 * K[1, 1] * 2.0 / 6
    assert soft.image[..., 0].sum() / soft.image.max() == pytest.approx(area, rel=0.01)


def warp(source, target, target_T_source, K):
    """Sample `source` where the target's true depth says; also which pixels both cameras see."""
    height, width = target.depth.shape
    u, v = pixel_grid(height, width)
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)])
    source_T_target = np.linalg.inv(target_T_source)
    points = np.einsum("ij,jhw->ihw", source_T_target[:3, :3], rays * target.depth)
    x, y, z = points + source_T_target[:3, 3, None, None]
    z = np.where(target.depth > 0, z, 1)
    place = [y / z * K[1, 1] + K[1, 2], x / z * K[0, 0] + K[0, 2]]
    warped = np.stack([map_coordinates(channel.astype(float), place, order=1, mode="nearest")
                       for channel in np.moveaxis(source.image, 2, 0)], axis=2)
    # Around the place, the source must see the same surface: nothing nearer, no edge.
    depth = np.where(source.depth > 0, source.depth, 1e6)
    near = map_coordinates(minimum_filter(depth, 3), place, order=0, mode="constant", cval=0)
    far = map_coordinates(-minimum_filter(-depth, 3), place, order=0, mode="constant", cval=0)
    visible = (target.depth > 0) & (near > 0.9 * z) & (far < 1.1 * z)
    return warped, visible


@pytest.mark.parametrize("seed", [3, 11])
@pytest.mark.parametrize("source_frame", ["right", "next", "previous"])
def test_true_depth_and_pose_warp_a_neighbour_onto_the_target(source_frame, seed):
    """Floor: a mean error of 4 grey levels of 255, from resampling; unwarped it is 15 to 28."""
    scene, poses = Street(seed, length=60), drive_poses(seed, 3)
    height, width = 96, 312
    K = nominal_intrinsics(height, width)
    target_T_source = {
        "right": camera(x=STEREO_BASELINE),
        "next": np.linalg.inv(poses[1]) @ poses[2],
        "previous": np.linalg.inv(poses[1]) @ poses[0],
    }[source_frame]
    target = render(scene, poses[1], K, height, width)
    source = render(scene, poses[1] @ target_T_source, K, height, width)
    warped, visible = warp(source, target, target_T_source, K)
    assert visible.mean() > 0.4
    error = np.abs(warped - target.image).mean(axis=2)[visible].mean()
    unwarped = np.abs(source.image - target.image.astype(float)).mean(axis=2)[visible].mean()
    assert error < 4
    assert error < unwarped / 5


def test_disparity_is_focal_length_times_baseline_over_depth(street):
    K = nominal_intrinsics(HEIGHT, WIDTH)
    pose = drive_poses(3, 1)[0]
    left = render(street, pose, K, HEIGHT, WIDTH, supersample=1).depth
    right = render(street, pose @ camera(x=STEREO_BASELINE), K, HEIGHT, WIDTH, supersample=1).depth
    rows, columns = np.nonzero(left)
    place = columns - K[0, 0] * STEREO_BASELINE / left[rows, columns]
    inside = place >= 0
    rows, columns, place = rows[inside], columns[inside], place[inside]
    found = right[rows, np.round(place).astype(int)]
    # Half a pixel away the road of this row and walls that face the camera have the same depth.
    same = np.abs(found / left[rows, columns] - 1) < 0.03
    assert same.mean() > 0.8
    hidden = found < 0.97 * left[rows, columns]
    nearer = found[hidden & (found > 0)]
    assert len(nearer) < 0.2 * len(found)


@pytest.mark.parametrize("cam", [2, 3])
@pytest.mark.parametrize("vel_depth", [False, True])
def test_a_scan_projects_back_onto_the_true_depth(tmp_path, street, cam, vel_depth):
    height, width = 128, 416
    for name, text in calibration(height, width).items():
        (tmp_path / name).write_text(text)
    pose = drive_poses(3, 2)[1]
    points = scan(street, pose @ CAM_T_LASER)
    assert points.dtype == np.float32
    assert points.shape[1] == 4
    assert ((points[:, 3] >= 0) & (points[:, 3] <= 1)).all()
    points.tofile(tmp_path / "scan.bin")
    laser = generate_depth_map(tmp_path, tmp_path / "scan.bin", cam, vel_depth)
    if cam == 3:
        pose = pose @ camera(x=STEREO_BASELINE)
    depth = render(street, pose, nominal_intrinsics(height, width), height, width).depth
    hit = laser > 0
    assert hit.sum() > 5000
    # Within a pixel: the true depths around a hit enclose its depth. What only the laser sees,
    # 8 cm above the left camera and 55 cm beside the right one, is the exception.
    near = minimum_filter(np.where(depth > 0, depth, 1e6), 3)[hit]
    far = -minimum_filter(-depth, 3)[hit]
    within = (laser[hit] > 0.999 * near) & (laser[hit] < 1.001 * far)
    assert within.mean() > (0.98, 0.95)[cam - 2]  # a pixel off, as of counting from 0: 0.65


def test_a_scan_is_ahead_and_within_range(street):
    points = scan(street, drive_poses(3, 1)[0] @ CAM_T_LASER)
    distance = np.linalg.norm(points[:, :3], axis=1)
    assert points[:, 0].min() > 0
    assert distance.max() <= 120.001
    elevation = np.degrees(np.arcsin(points[:, 2] / distance))
    assert len(np.unique(elevation.round(2))) <= 64
    assert elevation.min() >= -24.81
    assert elevation.max() <= 2.01
    assert points[:, 1].min() < -3 < 3 < points[:, 1].max()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_street(street):
    def picture(scene, seed):
        return render(scene, drive_poses(seed, 5)[4], nominal_intrinsics(32, 104), 32, 104)

    first, again, other = (picture(s, n) for s, n in ((street, 3), (Street(3, 60), 3),
                                                      (Street(4, 60), 4)))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.depth.tobytes() == again.depth.tobytes()
    assert np.abs(first.image.astype(int) - other.image).mean() > 10
    assert drive_poses(3, 5).tobytes() == drive_poses(3, 9)[:5].tobytes()


def test_a_street_has_ground_below_sky_above_and_texture_between(street):
    pose = drive_poses(3, 1)[0]
    image, depth = render(street, pose, nominal_intrinsics(64, 208), 64, 208)
    assert (depth[-1] > 1).all()
    assert (depth[-1] < 8).all()
    assert 0.02 < (depth == 0).mean() < 0.4
    assert not (depth[40:] == 0).any()
    assert np.median(np.abs(np.diff(image.mean(axis=2), axis=1))[depth[:, 1:] > 0]) > 1.5


def test_a_drive_moves_forward_like_a_car():
    poses = drive_poses(5, 200)
    rotations = poses[:, :3, :3]
    products = rotations @ rotations.swapaxes(1, 2)
    np.testing.assert_allclose(products, np.tile(np.eye(3), (200, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    steps = np.diff(poses[:, 2, 3])
    assert steps.min() >= 0.5
    assert steps.max() <= 1.0
    assert np.abs(poses[:, 0, 3]).max() <= 0.6
    assert np.abs(poses[:, 1, 3] + CAMERA_HEIGHT).max() <= 0.02
    assert np.degrees(np.arccos(rotations[:, 2, 2])).max() < 9


def test_the_camera_is_the_one_the_training_assumes():
    fx, fy, cx, cy = NOMINAL_INTRINSICS
    expected = [[fx * 416, 0, cx * 416], [0, fy * 128, cy * 128], [0, 0, 1]]
    np.testing.assert_allclose(nominal_intrinsics(128, 416), expected)
    assert pytest.approx(5.4 * 0.1) == STEREO_BASELINE
