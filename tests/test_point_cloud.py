"""Points from depth against the surfaces that were rendered; their files; scripts that write them.

The truth is the scene itself: which patch or ball each ray met, and where that lies in the world.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import point_cloud
import test_simple
import test_video
from checkpoint import save_checkpoint
from cloud_files import BACKGROUND, draw_cloud, splat, write_cloud, write_ply
from inference import DepthPredictor
from networks import build_depth_network, build_pose_network
from point_cloud import Cloud, Fusion, Intrinsics, depth_edges, lift, thin
from pose_inference import PosePredictor
from rendering import Street, drive_poses, nominal_intrinsics, render
from rendering.raycast import View, pinhole_rays
from tests.tiny_model import HEIGHT, WIDTH, save_picture
from utils import UserError

SIZE = (96, 320)
K = nominal_intrinsics(*SIZE)
TYPES = {"float": "<f4", "uchar": "u1"}


@pytest.fixture(scope="module")
def street():
    return Street(3, length=60)


@pytest.fixture(scope="module")
def frames(street):
    """(world_T_cam, image, depth, surface) of some frames."""
    poses = drive_poses(3, 8)[[2, 4, 7]]
    pictures = [render(street, pose, K, *SIZE, supersample=1) for pose in poses]
    surfaces = [View(street, pose).cast(pinhole_rays(K, *SIZE)).surface for pose in poses]
    return [(pose, *picture, surface)
            for pose, picture, surface in zip(poses, pictures, surfaces, strict=True)]  # fmt: skip


def off_surface(street, points, surface):
    """How far points of the world (N, 3) lie off the patches or balls that they are on, metres."""
    patches = len(street.tapers)
    flat = surface < patches
    number = np.where(flat, surface, 0)
    normals = np.cross(street.edges_u[number], street.edges_v[number])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    to_plane = np.abs(((points - street.origins[number]) * normals).sum(1))
    ball = np.where(flat, 0, surface - patches)
    radii = street.radii[ball]
    to_ball = np.abs(np.linalg.norm((points - street.centres[ball]) / radii, axis=1) - 1)
    return np.where(flat, to_plane, to_ball * radii.max(1))


def read_ply(path):
    """Comments and vertices of a PLY file, read as the format's description has it."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    (element,) = (line for line in lines if line.startswith("element"))
    count = int(re.fullmatch(r"element vertex (\d+)", element)[1])
    names = [line.split()[1:] for line in lines if line.startswith("property")]
    vertices = np.frombuffer(body, [(name, TYPES[kind]) for kind, name in names])
    assert len(vertices) == count
    return [line[8:] for line in lines if line.startswith("comment ")], vertices


def cloud_of(points, colours=None, sizes=None):
    points = np.asarray(points, np.float32)
    colours = np.zeros((len(points), 3)) if colours is None else colours
    sizes = np.full(len(points), 0.01) if sizes is None else sizes
    return Cloud(points, np.asarray(colours, np.uint8), np.asarray(sizes, np.float32))


# ---- geometry --------------------------------------------------------------------------------


def test_points_lie_on_what_was_rendered(street, frames, monkeypatch):
    monkeypatch.setattr(point_cloud, "depth_edges", lambda depth, _: np.zeros(depth.shape, bool))
    pose, image, depth, surface = frames[0]
    cloud = lift(depth, image, K, far=1e6)
    seen = surface.ravel() >= 0
    assert len(cloud.points) == seen.sum() > 0.6 * seen.size  # the sky has no depth
    np.testing.assert_array_equal(cloud.colours, image.reshape(-1, 3)[seen])
    world = cloud.points @ pose[:3, :3].T + pose[:3, 3]
    # Depth is rendered in float32: 1e-6 of up to 60 m, more where the surface is seen from aside.
    error = off_surface(street, world, surface.ravel()[seen])
    assert np.quantile(error, 0.999) < 1e-4
    assert error.max() < 1e-3
    assert (surface >= len(street.tapers)).any(), "no tree is seen"
    # On the surface, but at the right place of it: the ray caster's own point.
    rays = np.stack(np.broadcast_arrays(*pinhole_rays(K, *SIZE), 1.0), -1).reshape(-1, 3)[seen]
    np.testing.assert_allclose(cloud.points, rays * depth.ravel()[seen, None], rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(cloud.sizes, cloud.points[:, 2] / K[0, 0], rtol=1e-5)


def test_far_points_are_left_out(frames):
    _, image, depth, _ = frames[0]
    assert lift(depth, image, K, far=12).points[:, 2].max() <= 12
    usual = lift(depth, image, K).points[:, 2].max()
    assert usual <= point_cloud.FAR * np.median(depth[depth > 0])
    assert not len(lift(np.zeros_like(depth), image, K).points)


def plane(normal, offset):
    """Depth (H, W) of the plane normal . p = offset, 0 where it is not before the camera."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones(SIZE)], -1)
    along = rays @ normal
    return np.where(along > 1e-3, offset / np.maximum(along, 1e-3), 0)


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.9, 0, 0.4), (0, 1, 0.05), (0.6, 0.6, 0.5)])
def test_no_plane_is_an_edge(normal):
    """Not even a road up to the horizon: depth itself leaps more there than beside any car."""
    depth = plane(np.array(normal), 1.65)
    inside = depth > 0
    beside_the_end = ~inside | np.roll(~inside, 1, 0) | np.roll(~inside, -1, 0)
    beside_the_end |= np.roll(~inside, 1, 1) | np.roll(~inside, -1, 1)
    assert not depth_edges(depth, K)[~beside_the_end].any()


@pytest.mark.parametrize("blurred", [1, 6])
@pytest.mark.parametrize("across", [False, True])
def test_points_between_two_planes_are_dropped(blurred, across):
    """A step from 8 to 10 m, sharp or drawn out over some pixels as networks do it."""
    size = SIZE[::-1] if across else SIZE
    place = np.arange(size[1]) - size[1] // 2
    inverse = np.interp(place, [-blurred / 2, blurred / 2], [1 / 8, 1 / 10])
    depth = np.tile(1 / inverse, (size[0], 1))
    edges = depth_edges(*((depth.T, K) if across else (depth, K)))
    edges = edges.T if across else edges
    between = (depth > 8.01) & (depth < 9.99)
    assert edges[between].all()
    assert edges.any(axis=1).all()
    assert not edges[:, np.abs(place) > blurred / 2 + 1.5].any()


def test_frames_of_a_street_meet_on_its_surfaces(street, frames):
    """With true motions, all frames' points lie on the scene, and in the first camera's axes."""
    fusion = Fusion(voxel=0.05)
    first = previous = frames[0][0]
    for pose, image, depth, _ in frames:
        fusion.move(np.linalg.inv(pose) @ previous)
        fusion.add(lift(depth, image, K, far=25))
        previous = pose
    np.testing.assert_allclose(fusion.world_T_cam, np.linalg.inv(first) @ previous, atol=1e-9)
    cloud = fusion.cloud()
    world = cloud.points @ first[:3, :3].T + first[:3, 3]
    nearest = np.full(len(world), np.inf)
    for surface in np.unique([surface for *_, surface in frames]):
        nearest = np.minimum(nearest, off_surface(street, world, np.full(len(world), surface)))
    assert nearest.max() < 1e-3
    alone = [len(thin(lift(depth, image, K, far=25), 0.05).points) for _, image, depth, _ in frames]
    assert max(alone) < len(cloud.points) < sum(alone)


def test_a_voxel_keeps_what_was_seen_best():
    points = [(0.01, 0, 5.01), (0.09, 0.05, 5.05), (0.01, 0, -0.01), (0.01, 0.01, 5.02)]
    colours = np.arange(12).reshape(4, 3)
    kept = thin(cloud_of(points, colours, [0.3, 0.2, 0.5, 0.4]), 0.1)
    assert sorted(kept.colours[:, 0]) == [3, 6]


def test_memory_is_bounded(monkeypatch):
    """However many frames there are, and whatever they show."""
    monkeypatch.setattr(point_cloud, "MOST_POINTS", 500)
    rng, fusion, most = np.random.default_rng(0), Fusion(voxel=0.01), 0
    step = np.eye(4)
    step[2, 3] = -1
    for _ in range(20):
        fusion.move(step)
        fusion.add(cloud_of(rng.uniform((-2, -1, 2), (2, 1, 9), (300, 3))))
        most = max(most, sum(len(part.points) for part in fusion._parts))
    assert 100 < len(fusion.cloud().points) <= 500
    assert most <= 1300
    assert fusion.voxel > 0.01
    assert np.ptp(fusion.cloud().points[:, 2]) > 20
    standing = Fusion()
    for _ in range(5):
        standing.add(cloud_of([(0, 0, 3), (1, 0, 6), (2, 0, 9)]))
    assert (len(standing.cloud().points), standing.voxel) == (3, pytest.approx(6 / 300))


# ---- cameras ---------------------------------------------------------------------------------


def test_cameras_by_name_number_and_file(tmp_path):
    np.testing.assert_allclose(Intrinsics.parse("kitti").matrix(*SIZE, "a"), K)
    nyu = Intrinsics.parse("nyu").matrix(240, 320, "a")
    np.testing.assert_allclose(nyu[[0, 1, 0, 1], [0, 1, 2, 2]] * 2,
                               (518.857901, 519.469611, 325.582449, 253.736166))  # fmt: skip
    expected = np.array([[300, 0, 160.5], [0, 310, 50], [0, 0, 1]])
    texts = ("300 310 160.5 50", "300,310,\n160.5, 50\n", "300 0 160.5\n0 310 50\n0 0 1\n")
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
    for given in ("300,310,160.5,50", *(tmp_path / f"{number}.txt" for number in range(3))):
        np.testing.assert_array_equal(Intrinsics.parse(str(given)).matrix(*SIZE, "a"), expected)


def test_a_file_that_tells_its_pictures_size_is_scaled_to_others(tmp_path):
    (tmp_path / "camera.txt").write_text("# size: 640x192\n600 620 321 100  # of two phones\n")
    camera = Intrinsics.parse(str(tmp_path / "camera.txt"))
    expected = np.array([[300, 0, 160.5], [0, 310, 50], [0, 0, 1]])
    np.testing.assert_allclose(camera.matrix(96, 320, "a"), expected)
    np.testing.assert_allclose(camera.matrix(192, 640, "a")[0], [600, 0, 321])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("moon", "--intrinsics moon is neither kitti, nyu, nor four numbers fx,fy,cx,cy"),
        ("300,310,160", "300,310,160 is neither"),
        ("300,310,160,x", "300,310,160,x is neither"),
        ("3000,310,160,50", r"a\.png .*3000.* fx 9\.375 times the picture's width"),
        ("300,10,160,50", r"a\.png .* fy 0\.104167 times the picture's height"),
        ("300,310,-1,50", r"a\.png .* cx -0\.003125"),
        ("300,310,160,97", r"a\.png .* cy 1\.01042"),
        ("300,310,79,50", r"a\.png is 320x96 .* 300,310,79,50 .* cx 79, expected 80 to 240"),
        ("300,310,160,73", r"a\.png is 320x96 .* cy 73, expected 24 to 72"),
        ("400,190,160,50", r"a\.png is 320x96 .* fx / fy is 2\.10526, expected 0\.5 to 2"),
        ("140,300,160,50", r"a\.png is 320x96 .* fx / fy is 0\.466667, expected 0\.5 to 2"),
        ("300,310,160,nan", r"a\.png .* cy nan"),
        ("nyu", r"a\.png is 320x96 .* another shape than the pictures of --intrinsics nyu"),
    ],
)
def test_a_camera_that_does_not_fit_is_named(text, named):
    with pytest.raises(UserError, match=named) as error:
        Intrinsics.parse(text).matrix(*SIZE, "a.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["1 2 3", "a b c d", "9 1 9 0 9 9 0 0 1", "9 0 9 0 9 9 0 0 2", ""])
def test_a_file_that_is_no_camera(tmp_path, text):
    (tmp_path / "camera.txt").write_text(text)
    with pytest.raises(UserError, match=r"camera\.txt is neither kitti"):
        Intrinsics.parse(str(tmp_path / "camera.txt"))


# ---- files -----------------------------------------------------------------------------------


def test_a_ply_file_holds_every_point(tmp_path):
    rng = np.random.default_rng(0)
    cloud = cloud_of(rng.normal(size=(1001, 3)), rng.integers(0, 256, (1001, 3)))
    write_ply(tmp_path / "a.ply", cloud, ["unit: m"])
    comments, vertices = read_ply(tmp_path / "a.ply")
    assert comments == ["axes: x right, y down, z forward", "unit: m"]
    assert vertices.dtype.descr == [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "|u1"), ("green", "|u1"), ("blue", "|u1"),
    ]  # fmt: skip
    for number, name in enumerate(("x", "y", "z")):
        np.testing.assert_array_equal(vertices[name], cloud.points[:, number])
    for number, name in enumerate(("red", "green", "blue")):
        np.testing.assert_array_equal(vertices[name], cloud.colours[:, number])
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"]
    with pytest.raises(UserError, match=r"no point to write to .*b\.ply: .* --far"):
        write_cloud(cloud.at(np.zeros(1001, bool)), None, tmp_path / "b.ply")


def test_near_points_hide_far_ones():
    red, blue = (200, 0, 0), (0, 0, 200)
    points = [(0, 0, 4), (0, 0, 2), (1, 0.5, 4), (0, 0, -3)]
    for order in ((0, 1, 2, 3), (3, 2, 1, 0)):
        chosen = np.array(points, float)[list(order)]
        colours = np.array([blue, red, blue, (0, 200, 0)], np.uint8)[list(order)]
        picture = splat(chosen, colours, np.full(4, 0.02), 100.0, 61, 81)
        assert tuple(picture[30, 40]) == red  # on the axis
        assert (picture[42:44, 65] == blue).all(-1).sum() == 1  # at (40 + 25, 30 + 12.5)
        assert (picture != BACKGROUND).any(-1).sum() == 2  # what is behind the camera is not seen
    wide = splat(np.array(points[:2], float), np.array([blue, red], np.uint8), np.full(2, 0.1),
                 100.0, 61, 81)  # fmt: skip
    assert (wide == red).all(-1).sum() == 25  # 0.1 at depth 2: 5 pixels square, in front
    behind = splat(np.array(points[:2], float), np.array([blue, red], np.uint8),
                   np.array([0.2, 0.02]), 100.0, 61, 81)  # fmt: skip
    assert tuple(behind[30, 40]) == red
    assert (behind == blue).all(-1).sum() == 24


def test_the_view_of_a_street(frames):
    """From the right and above: what is near stands lower, what is on the left is seen there."""
    left, right, near, far = (np.eye(3)[0] * 200, np.eye(3)[1] * 200, np.eye(3)[2] * 200,
                              np.full(3, 200))  # fmt: skip
    points = [(-3, 0, 10), (3, 0, 10), (0, 0, 6), (0, 0, 16)] * 50
    picture = draw_cloud(cloud_of(points, [left, right, near, far] * 50, np.full(200, 0.3)))
    places = [np.argwhere((picture == colour).all(-1)).mean(0) for colour in
              (left, right, near, far)]  # fmt: skip
    assert places[0][1] < places[1][1]
    assert places[3][0] < places[2][0]
    _, image, depth, _ = frames[0]
    picture = draw_cloud(lift(depth, image, K), 180, 320)
    assert (picture != BACKGROUND).any(-1).mean() > 0.2


# ---- scripts ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Untrained networks of depth and motion."""
    networks = (build_depth_network("resnet", 18), build_pose_network(18))
    parts = {name: part.state_dict() for net in networks for name, part in net.parts().items()}
    path = tmp_path_factory.mktemp("model") / "model.pth"
    save_checkpoint(path, {**parts, "height": HEIGHT, "width": WIDTH})
    return path


def run(script, checkpoint, image_path, *flags):
    flags = ("--pretrained_path", checkpoint, "--image_path", image_path, "--no_cuda", *flags)
    script.main([str(flag) for flag in flags])


def test_points_of_a_picture(checkpoint, tmp_path):
    path = save_picture(tmp_path / "a.png", 0, 30, 100)
    run(test_simple, checkpoint, path, "--save_ply", "--intrinsics", "kitti")
    comments, unscaled = read_ply(tmp_path / "a_depth_unscaled.ply")
    assert "unit: unscaled, m up to one unknown factor" in comments
    run(test_simple, checkpoint, path, "--save_ply", "--save_depth", "--scale", 3, "--intrinsics",
        "58,57.6,50,15", "--show3d", tmp_path / "view.png", "--overwrite")  # fmt: skip
    comments, metres = read_ply(tmp_path / "a_depth_m.ply")
    assert "unit: m, 3 of the network's" in comments
    np.testing.assert_allclose(metres["z"], unscaled["z"] * 3, rtol=1e-5)
    np.testing.assert_allclose(metres["x"], unscaled["x"] * 3, rtol=1e-4, atol=1e-5)
    depth = np.load(tmp_path / "a_depth_m.npy")
    assert np.isin(metres["z"], depth).all()
    assert json.loads((tmp_path / "a_depth_m.json").read_text())["files"]["a_depth_m.ply"]
    with Image.open(tmp_path / "view.png") as view:
        assert view.size == (1280, 720)
    save_picture(tmp_path / "in" / "b.png", 1)
    save_picture(tmp_path / "in" / "c.png", 1)
    with pytest.raises(UserError, match=r"would both become .*view2\.png"):
        run(test_simple, checkpoint, tmp_path / "in", "--show3d", tmp_path / "view2.png",
            "--intrinsics", "kitti")  # fmt: skip
    with pytest.raises(UserError, match=r"b\.png .*7000.* fx 77\.7778"):
        run(test_simple, checkpoint, tmp_path / "in/b.png", "--save_ply", "--intrinsics",
            "7000,60,45,24")  # fmt: skip


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_a_picture_one_pixel_wide_or_high(tmp_path, size):
    camera = Intrinsics.parse(f"4,4,{size[1] / 2},{size[0] / 2}").matrix(*size, "a.png")
    cloud = lift(np.full(size, 3.0), np.zeros((*size, 3), np.uint8), camera)
    assert len(cloud.points) == size[0] * size[1]
    write_cloud(cloud, None, tmp_path / "a.ply", tmp_path / "a.png")


def test_points_of_a_video(checkpoint, tmp_path, capsys):
    for number in range(3):
        save_picture(tmp_path / "in" / f"{number}.png", number, 30, 100)
    flags = ("--intrinsics", "kitti", "--output", tmp_path / "a.gif", "--save_ply",
             tmp_path / "a.ply")  # fmt: skip
    run(test_video, checkpoint, tmp_path / "in", *flags, "--show3d", tmp_path / "a.png")
    comments, vertices = read_ply(tmp_path / "a.ply")
    assert comments[1:3] == [
        "unit: unscaled, m up to one unknown factor", "origin: the first frame's camera",
    ]  # fmt: skip
    assert comments[3].startswith("voxels: one point in each of ")
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{len(vertices)} points: {tmp_path / name}" for name in ("a.ply", "a.png")
    ]
    with pytest.raises(UserError, match=r"no point to write to .*c\.ply"):
        run(test_video, checkpoint, tmp_path / "in", *flags[:3], tmp_path / "c.gif", "--save_ply",
            tmp_path / "c.ply", "--far", 1e-3)  # fmt: skip
    assert not (tmp_path / "c.gif").exists()
    with pytest.raises(UserError, match=r"a\.ply is there already: --overwrite"):
        run(test_video, checkpoint, tmp_path / "in", *flags[:3], tmp_path / "b.gif", *flags[4:])


def test_the_camera_moves_through_a_video(checkpoint, tmp_path, monkeypatch):
    """Walls 2 units ahead of a camera that goes 0.5 ahead a frame; in metres, all of it twice."""
    for number in range(3):
        Image.new("RGB", (100, 30), (50 * number,) * 3).save(tmp_path / f"{number}.png")
    ahead = torch.eye(4)[None].double()
    ahead[0, 2, 3] = -0.5  # points come nearer
    shown = []
    monkeypatch.setattr(PosePredictor, "motions", lambda _, pair: shown.append(pair) or ahead)
    monkeypatch.setattr(DepthPredictor, "scaled_disp",
                        lambda self, _: torch.full((1, 1, self.height, self.width), 0.5))
    run(test_video, checkpoint, tmp_path, "--intrinsics", "kitti", "--output", tmp_path / "a.gif",
        "--save_ply", tmp_path / "a.ply", "--scale", 2, "--voxel", 0.01)  # fmt: skip
    assert [pair.float().mean((1, 2, 3)).tolist() for pair in shown] == [[0, 50], [50, 100]]
    comments, vertices = read_ply(tmp_path / "a.ply")
    assert comments[1:] == ["unit: m, 2 of the network's", "origin: the first frame's camera",
                            "voxels: one point in each of 0.01"]
    for number in range(3):
        wall = vertices[vertices["red"] == 50 * number]
        np.testing.assert_allclose(wall["z"], 4 + number, rtol=1e-6)
        assert len(wall) == 3000


def test_frames_are_fused_by_a_pose_network_alone(checkpoint, tmp_path):
    save_picture(tmp_path / "in" / "a.png", 0, 30, 100)
    depth_only = {name: part.state_dict()
                  for name, part in build_depth_network("resnet", 18).parts().items()}  # fmt: skip
    save_checkpoint(tmp_path / "depth.pth", {**depth_only, "height": HEIGHT, "width": WIDTH})
    flags = ("--intrinsics", "kitti", "--save_ply", tmp_path / "a.ply")
    with pytest.raises(UserError, match=r"depth\.pth holds no pose network"):
        run(test_video, tmp_path / "depth.pth", tmp_path / "in", *flags)
    with pytest.raises(UserError, match=r"a frame of .*in .* fx 9 times the picture's width"):
        run(test_video, checkpoint, tmp_path / "in", "--intrinsics", "900,57,50,15", *flags[2:])
    assert {path.name for path in tmp_path.iterdir()} == {"in", "depth.pth"}
