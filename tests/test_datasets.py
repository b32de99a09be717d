"""Data sets over HTTP: a real service, real files, and what people and attackers send instead."""

import gzip
import io
import os
import socket
import struct
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.cli import main
from app.home import Home
from app.main import create_app
from app.settings import Settings
from tests.conftest import ADMIN, ADMIN_KEY, ROOT, SAMPLE
from tests.processes import service, wait_for
from tests.samples import events, is_problem

OWN = ROOT.parent / "shared" / "data" / "own"
LIMIT = 20_000_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[httpx2.Client]:
    """A service with its worker; everything here shares it."""
    with service(home, MINIST_MAX_DATASET_BYTES=str(LIMIT), MINIST_FEEDBACK="true") as (_, client):
        yield client


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    """An API without a worker: imports wait."""
    settings = Settings(
        home=tmp_path,
        data_dir=SAMPLE,
        device="cpu",
        api_key=SecretStr(ADMIN_KEY),
        max_dataset_bytes=1_000_000,
        keep_datasets_bytes=20_000,
        log_requests=False,
    )
    with TestClient(create_app(settings), headers=ADMIN) as client:
        yield client


def picture(shade: int, size: tuple[int, int] = (28, 28)) -> bytes:
    stream = io.BytesIO()
    Image.new("L", size, shade).save(stream, "PNG")
    return stream.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def shades(each: int = 20, classes: tuple[str, ...] = ("dark", "light"), seed: int = 0) -> bytes:
    """A zip of class folders whose classes differ in brightness."""
    files = {}
    step = 200 // len(classes)
    for index, label in enumerate(classes):
        for i in range(each):
            files[f"{label}/{i}.png"] = picture(seed + index * step + i * (step - 10) // each)
    return zipped(files)


def own(name: str) -> bytes:
    path = OWN / name
    if not path.exists():
        pytest.skip(f"{name} is not among the shared data")
    return path.read_bytes()


def post(client: httpx2.Client | TestClient, name: str, data: bytes, **options: str) -> Any:
    return client.post("/datasets", params={"name": name, **options}, files={"file": ("f.zip", data)})


def ended(client: httpx2.Client, reference: str) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        body: dict[str, Any] = client.get(f"/datasets/{reference}").raise_for_status().json()
        return body if body["status"] != "importing" else None

    return wait_for(done)


def imported(client: httpx2.Client, name: str, data: bytes, **options: str) -> dict[str, Any]:
    response = post(client, name, data, **options)
    assert response.status_code == 202, response.text
    body = ended(client, response.json()["reference"])
    assert body["status"] == "ready", body["error"]
    return body


# -- the usual way -----------------------------------------------------------------------------------


def test_a_zip_of_class_folders_becomes_a_data_set_that_can_be_looked_at(
    client: httpx2.Client, home: Path
) -> None:
    response = post(client, "shades", shades())
    assert response.status_code == 202
    assert response.headers["location"] == "/datasets/shades"
    assert response.json()["status"] in ("importing", "ready")
    body = ended(client, "shades")
    profile = body["profile"]
    assert (body["reference"], body["status"], profile["images"]) == ("shades@1", "ready", 40)
    assert sum(profile["counts"]["dark"].values()) == 20
    assert body["digest"] == profile["digest"]
    found = {line["reference"]: line for line in client.get("/datasets").json()}
    assert found["shades@1"]["summary"]["images"] == 40
    assert all(found[name]["built_in"] for name in ("mnist", "fashion-mnist"))
    modes = {path.stat().st_mode & 0o077 for path in (home / "datasets").rglob("*")}
    assert modes == {0}  # they may be people's pictures
    kinds = [kind for kind, _, _ in events(client.get("/datasets/shades/events").text)]
    assert kinds[0] == kinds[-1] == "status"


def test_the_same_bytes_and_options_are_the_same_version(client: httpx2.Client) -> None:
    first = imported(client, "same", shades())
    again = post(client, "same", shades())
    assert (again.status_code, again.json()["reference"]) == (200, "same@1")
    assert again.headers["location"] == "/datasets/same@1"
    assert post(client, "same", shades(), test_share="0.2").status_code == 200  # as it is by default
    other = imported(client, "same", shades(), seed="7")
    assert (other["version"], other["source_digest"]) == (2, first["source_digest"])
    assert other["digest"] != first["digest"]
    assert [line["version"] for line in client.get("/datasets/same").json()["versions"]] == [2, 1]


def test_a_version_is_read_again_with_other_options(client: httpx2.Client) -> None:
    imported(client, "again", shades(classes=("a", "b", "c")))
    wanted = {"from": 1, "options": {"drop": ["c"], "rename": {"a": "first"}, "size": 32, "test_share": 0.5}}
    response = client.post("/datasets/again/versions", json=wanted)
    assert response.status_code == 202, response.text
    body = ended(client, "again@2")
    assert body["profile"]["classes"] == ["b", "first"]
    assert body["summary"]["shape"] == [1, 32, 32]
    assert (body["from_version"], body["profile"]["counts"]["b"]["test"]) == (1, 10)
    assert client.get("/datasets/again@1").json()["profile"]["classes"] == ["a", "b", "c"]
    is_problem(client.post("/datasets/again/versions", json={"from": 9}), 404, "Unknown data set")
    wrong = client.post("/datasets/again/versions", json={"from": 1, "options": {"siez": 32}})
    assert "options.siez" in str(is_problem(wrong, 422, "Invalid request")["detail"])


def test_npz_as_the_body_and_options_in_the_form(client: httpx2.Client) -> None:
    stream = io.BytesIO()
    images = np.random.default_rng(0).integers(0, 255, (40, 12, 12, 3), np.uint8)
    np.savez(stream, train_images=images, train_labels=np.arange(40) % 2)
    headers = {"content-type": "application/octet-stream"}
    response = client.post("/datasets?name=arrays", content=stream.getvalue(), headers=headers)
    assert response.status_code == 202, response.text
    assert ended(client, "arrays")["summary"]["shape"] == [3, 12, 12]
    fields = {"name": "fields", "size": "16", "options": '{"rename": {"dark": "black"}}'}
    response = client.post("/datasets", data=fields, files={"file": shades()})
    assert response.status_code == 202, response.text
    body = ended(client, "fields")
    assert (body["profile"]["classes"], body["profile"]["height"]) == (["black", "light"], 16)


def test_samples_are_shown_as_the_model_sees_them_and_as_they_came(client: httpx2.Client) -> None:
    large = {
        f"{label}/{i}.png": picture(10 * i + n, (300, 200)) for n, label in enumerate("ab") for i in range(9)
    }
    imported(client, "samples", zipped(large))
    found = client.get("/datasets/samples/samples", params={"class": "a", "split": "train", "limit": 3}).json()
    assert [(sample["label"], sample["split"]) for sample in found] == [("a", "train")] * 3
    assert all(sample["image"].startswith("data:image/png") for sample in found)
    assert all(sample["original"].startswith("data:image/jpeg") for sample in found)
    each = client.get("/datasets/samples/samples", params={"limit": 6}).json()
    assert len({(sample["label"], sample["split"]) for sample in each}) == 6
    assert len(client.get("/datasets/mnist/samples", params={"class": "7", "limit": 3}).json()) == 3
    asked = client.get("/datasets/samples/samples", params={"class": "x"})
    assert "a, b" in str(is_problem(asked, 422, "Invalid request")["hint"])


def test_an_export_imports_to_the_same_pictures_and_splits(client: httpx2.Client) -> None:
    first = imported(client, "exported", shades())
    response = client.get("/datasets/exported/export")
    assert response.headers["content-type"] == "application/zip"
    names = zipfile.ZipFile(io.BytesIO(response.content)).namelist()
    assert sorted({name.rpartition("/")[0] for name in names}) == [
        f"{split}/{label}" for split in ("test", "train", "validation") for label in ("dark", "light")
    ]
    again = imported(client, "exported", response.content)
    assert again["profile"]["counts"] == first["profile"]["counts"]


def test_a_class_from_outside_leads_nowhere_when_an_export_is_unpacked(client: httpx2.Client) -> None:
    stream = io.BytesIO()
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)
    np.savez(stream, train_images=images, train_labels=np.array(["../../evil", "/etc"] * 20))
    imported(client, "climbing", stream.getvalue())
    names = zipfile.ZipFile(io.BytesIO(client.get("/datasets/climbing/export").content)).namelist()
    assert not any(".." in name.split("/") or name.startswith("/") for name in names)
    assert len({name.split("/")[1] for name in names}) == 2


def test_corrections_of_a_model_become_a_data_set(client: httpx2.Client, digits: dict[str, bytes]) -> None:
    for label in "1237":
        asked = client.post("/predict", files={"file": digits[label]}).raise_for_status().json()
        client.post("/feedback", json={"prediction": asked["id"], "label": "0" if label < "3" else "7"})
    params = {"name": "wrong", "from_corrections": "digits"}
    response = client.post("/datasets", params=params)
    assert response.status_code == 202, response.text
    body = ended(client, "wrong")
    assert (body["corrections_of"], body["profile"]["classes"]) == ("digits", ["0", "7"])
    assert client.post("/datasets", params=params).status_code == 200  # nothing new was corrected
    none = client.post("/datasets", params={"name": "wrong", "from_corrections": "fashion"})
    is_problem(none, 409, "Conflict")
    is_problem(client.post("/datasets", params={**params, "from_corrections": "x"}), 404, "Unknown model")


# -- tables ------------------------------------------------------------------------------------------


def table(rows: int = 60) -> bytes:
    """Size and colour tell the class."""
    lines = (f"{i * 7919 % 997},{('red', 'blue')[i // 2 % 2]},{'ab'[i // 3 % 2]}" for i in range(rows))
    return ("size,colour,kind\n" + "\n".join(lines) + "\n").encode()


def test_a_csv_file_waits_for_its_target_and_becomes_complete_by_it(client: httpx2.Client) -> None:
    headers = {"content-type": "text/csv"}
    response = client.post("/datasets", params={"name": "kinds"}, content=table(), headers=headers)
    assert response.status_code == 202, response.text
    waiting = ended(client, "kinds")
    assert (waiting["status"], waiting["kind"], waiting["error"]) == ("needs_target", "table", None)
    assert waiting["profile"]["proposals"][0]["column"] == "kind"
    assert [column["role"] for column in waiting["profile"]["columns"]] == [
        "numeric",
        "categorical",
        "categorical",
    ]
    assert waiting["summary"]["rows"] == 60
    job = {"model": "kinds", "recipe": "auto", "dataset": "kinds@1"}
    assert "target" in str(is_problem(client.post("/train", json=job), 409, "Conflict")["detail"])
    is_problem(client.get("/datasets/kinds/samples"), 409, "Conflict")
    is_problem(client.get("/datasets/kinds/export"), 409, "Conflict")
    again = client.post("/datasets", params={"name": "kinds"}, content=table(), headers=headers)
    assert (again.status_code, again.json()["reference"]) == (200, "kinds@1")
    response = client.post("/datasets/kinds/versions", json={"from": 1, "options": {"target": "kind"}})
    assert response.status_code == 202, response.text
    body = ended(client, "kinds")
    assert (body["reference"], body["status"], body["options"]["target"]) == ("kinds@1", "ready", "kind")
    assert body["summary"] == {
        "rows": 60,
        "columns": 3,
        "target": "kind",
        "classes": 2,
        "bad_rows": 0,
        "warnings": len(body["profile"]["warnings"]),
    }
    profile = body["profile"]
    assert (profile["kind"], profile["classes"], profile["input"]["target"]) == ("table", ["a", "b"], "kind")
    assert sum(profile["counts"]["a"].values()) == 30
    assert [line["version"] for line in body["versions"]] == [1]
    kinds = [kind for kind, _, _ in events(client.get("/datasets/kinds/events").text)]
    assert kinds[-1] == "status"


def test_a_table_with_its_target_in_one_request_and_read_again_with_other_roles(client: httpx2.Client) -> None:
    body = imported(client, "at-once", table(), target="kind", options='{"roles": {"size": "leave-out"}}')
    assert [column["used"] for column in body["profile"]["columns"]] == [False, True, False]
    same = post(client, "at-once", table(), target="kind", options='{"roles": {"size": "leave-out"}}')
    assert same.status_code == 200
    wanted = {"from": 1, "options": {"target": "colour", "test_share": 0.5}}
    assert client.post("/datasets/at-once/versions", json=wanted).status_code == 202
    other = ended(client, "at-once@2")
    assert other["profile"]["classes"] == ["blue", "red"]
    assert ended(client, "at-once@1")["profile"]["classes"] == ["a", "b"]
    wrong = client.post("/datasets/at-once/versions", json={"from": 1, "options": {"size": 32}})
    assert "options.size" in str(is_problem(wrong, 422, "Invalid request")["detail"])


def test_rows_are_shown_and_exported_as_they_came(client: httpx2.Client) -> None:
    first = imported(client, "rows", table(), target="kind")
    asked = {"class": "a", "split": "train", "limit": "2"}
    found = client.get("/datasets/rows/samples", params=asked).json()
    assert [(row["label"], row["split"]) for row in found] == [("a", "train")] * 2
    assert ",".join(found[0]["values"].values()).encode() in table()
    response = client.get("/datasets/rows/export")
    assert response.headers["content-type"].startswith("text/csv")
    assert "rows-1.csv" in response.headers["content-disposition"]
    assert response.text.startswith('"size","colour","kind","split"')
    again = imported(client, "rows", response.content, target="kind")
    assert again["profile"]["counts"] == first["profile"]["counts"]


def test_a_zip_of_tables_needs_no_word_that_it_is_one(client: httpx2.Client) -> None:
    data = zipped({"train.csv": table(), "test.csv": table(20)})
    waiting = post(client, "zipped", data).json()
    body = ended(client, waiting["reference"])
    assert (body["kind"], body["status"]) == ("table", "needs_target")
    assert post(client, "zipped", data).status_code == 200
    body = imported(client, "zipped", data, target="kind")
    assert (body["version"], body["profile"]["given_splits"]) == (1, ["train", "test"])
    assert post(client, "zipped", shades(), target="kind").status_code == 202
    pictures = ended(client, "zipped")
    assert (pictures["status"], "no table" in pictures["error"]) == ("failed", True)


def test_a_target_that_cannot_be_one_fails_with_the_reason_and_another_one_is_taken(
    client: httpx2.Client,
) -> None:
    post(client, "refused", table(), target="knid")
    body = ended(client, "refused")
    assert (body["status"], "did you mean 'kind'" in body["error"]) == ("failed", True)
    wanted = {"from": 1, "options": {"target": "kind"}}
    made = client.post("/datasets/refused/versions", json=wanted).json()
    assert ended(client, made["reference"])["status"] == "ready"


def test_a_bomb_of_gzip_is_stopped_in_the_import(client: httpx2.Client, home: Path) -> None:
    """80 MB of rows in 350 kB."""
    bomb = gzip.compress(b"x,y\n" + b"1,a\n" * 20_000_000, 1)
    assert post(client, "gzip-bomb", bomb, target="y").status_code == 202
    body = ended(client, "gzip-bomb")
    assert body["status"] == "failed"
    assert "unpacks to more than" in body["error"]
    assert sum(path.stat().st_size for path in (home / "runs").rglob("dataset/*")) == 0


# -- jobs --------------------------------------------------------------------------------------------


def test_a_job_is_pinned_to_the_version_that_it_was_asked_for_with(client: httpx2.Client) -> None:
    body = imported(client, "pinned", shades(each=40))
    request = {"model": "pinned", "recipe": "softmax-mnist", "epochs": 1, "validation_images": 5}
    job = client.post("/train", json={**request, "dataset": "pinned"}).raise_for_status().json()
    assert job["config"]["dataset"] == "pinned@1"

    def ended_job() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/train/{job['id']}").json()
        return found if found["status"] not in ("queued", "running") else None

    assert wait_for(ended_job)["status"] == "succeeded"
    card = client.get("/models/pinned").json()
    assert card["dataset"] == {"name": "pinned@1", "digest": body["digest"]}
    in_use = is_problem(client.delete("/datasets/pinned"), 409, "Conflict")
    assert "pinned@1" in str(in_use["detail"])
    assert client.delete("/datasets/pinned?force=true").status_code == 204
    is_problem(client.get("/datasets/pinned"), 404, "Unknown data set")
    assert imported(client, "pinned", shades(each=40))["version"] == 2  # numbers are not used twice
    near = is_problem(client.post("/train", json={**request, "dataset": "pinnde"}), 422, "Invalid request")
    assert "'pinned'" in str(near["hint"])
    gone = client.post("/train", json={**request, "dataset": "pinned@1"})
    assert "version '1'" in str(is_problem(gone, 422, "Invalid request")["detail"])
    for wrong in ("/etc/passwd", "../x@1", "pinned@", "pinned@2/.."):
        is_problem(client.post("/train", json={**request, "dataset": wrong}), 422, "Invalid request")


def test_a_job_on_what_is_not_ready_is_refused_and_a_cancelled_import_goes_on(api: TestClient) -> None:
    body = post(api, "waiting", shades()).json()
    assert body["status"] == "importing"
    request = {"model": "m", "recipe": "softmax-mnist", "dataset": "waiting"}
    is_problem(api.post("/train", json=request), 409, "Conflict")
    is_problem(api.get("/datasets/waiting/samples"), 409, "Conflict")
    assert api.get("/train").json()["jobs"] == []
    (job,) = api.get("/train", params={"kind": "import"}).json()["jobs"]
    assert (job["id"], job["kind"], job["model"]) == (body["job"], "import", "waiting")
    api.delete(f"/train/{job['id']}")
    assert "cancelled" in api.get("/datasets/waiting").json()["error"]
    again = post(api, "waiting", shades()).json()
    assert (again["reference"], again["status"], again["job"]) == ("waiting@1", "importing", job["id"])
    assert api.delete("/datasets/waiting").status_code == 204  # also cancels it
    assert api.get(f"/train/{job['id']}").json()["status"] == "cancelled"


# -- what people send ------------------------------------------------------------------------------------


def test_every_trap_has_its_right_outcome(client: httpx2.Client, home: Path) -> None:
    profile = imported(client, "traps", own("traps/image_traps.zip"))["profile"]
    assert {"007", "7", "żółw_龟", "Ned Flanders (1 only)"} <= set(profile["classes"])
    assert {bad["path"].rpartition("/")[2] for bad in profile["bad_files"]} == {
        "corrupt_truncated.jpg",
        "zero_bytes.jpg",
        "is_html.png",
    }
    assert post(client, "slip", own("traps/zip_slip.zip")).status_code == 202
    slip = ended(client, "slip")
    assert slip["status"] == "failed"
    assert "evil.jpg" in slip["error"]
    assert not list(home.rglob("evil*"))
    post(client, "weka", own("traps/weka-datasets-with-__MACOSX.zip"))
    weka = ended(client, "weka")
    assert weka["status"] == "failed"
    assert weka["error"]
    for name in sorted(path.name for path in (OWN / "traps").glob("*.csv")):  # see test_importing_tables, too
        reference = post(client, "table", own(f"traps/{name}")).json()["reference"]
        assert ended(client, reference)["status"] == "needs_target"


def test_a_bomb_is_stopped_while_it_unpacks(client: httpx2.Client, home: Path) -> None:
    bomb = zipped({**{f"a/{i}.png": picture(i) for i in range(9)}, "b/bomb.png": bytes(200 * 1024**2)})
    assert post(client, "bomb", bomb).status_code == 202
    body = ended(client, "bomb")
    assert body["status"] == "failed"
    assert "bomb.png" in body["error"]
    assert sum(path.stat().st_size for path in (home / "runs").rglob("dataset/*")) == 0


def test_one_byte_too_many_is_refused_and_leaves_nothing(client: httpx2.Client, home: Path) -> None:
    too_many = b"PK\x03\x04" + bytes(LIMIT)
    headers = {"content-type": "application/zip"}

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(too_many), 100_000):
            yield too_many[at : at + 100_000]

    for content in (too_many, pieces()):  # announced, and not
        refused = client.post("/datasets?name=large", content=content, headers=headers)
        assert "MINIST_MAX_DATASET_BYTES" in str(is_problem(refused, 413, "Body too large")["detail"])
    is_problem(client.get("/datasets/large"), 404, "Unknown data set")
    assert not list((home / "datasets").glob(".incoming-*"))


@pytest.mark.parametrize(
    ("content_type", "body", "status", "title"),
    [
        ("application/zip", b"", 422, "Empty body"),
        ("application/zip", b"%PDF-1.7 and so on", 422, "Not a data set"),
        ("image/png", b"\x89PNG", 415, "Wrong content type"),
        ("application/json", b"{}", 415, "Wrong content type"),
        ("multipart/form-data", b"--b\r\n", 400, "Malformed form"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n", 400, "Malformed form"),
        ("multipart/form-data; boundary=b", b"nothing at all", 400, "Malformed form"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 300_000, 400, "Malformed form"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\nPK\x03\x04',
            400,
            "Malformed form",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="colour"\r\n\r\nred\r\n--b--\r\n',
            422,
            "Wrong form fields",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\n\r\n' * 40 + b"--b--\r\n",
            422,
            "Wrong form fields",
        ),
    ],
)
def test_what_is_no_data_set_is_told_at_once(
    api: TestClient, content_type: str, body: bytes, status: int, title: str
) -> None:
    headers = {"content-type": content_type}
    is_problem(api.post("/datasets?name=x", content=body, headers=headers), status, title)
    assert api.get("/datasets/x").status_code == 404


def test_wrong_names_and_options_are_told(api: TestClient) -> None:
    is_problem(post(api, "mnist", shades()), 409, "Conflict")
    is_problem(post(api, "../../etc", shades()), 422, "Invalid request")
    is_problem(api.post("/datasets", files={"file": shades()}), 422, "Invalid request")
    is_problem(post(api, "x", shades(), size="huge"), 422, "Invalid request")
    is_problem(post(api, "x", shades(), options="[1]"), 422, "Invalid request")
    is_problem(post(api, "x", shades(), path="/etc/passwd"), 422, "Invalid request")
    form = {"name": "y", "siez": "3"}
    near = is_problem(api.post("/datasets", data=form, files={"file": shades()}), 422, "Wrong form fields")
    assert "size" in str(near["hint"])


def test_all_data_sets_together_are_bounded(api: TestClient) -> None:
    assert post(api, "first", zipped({"a/1.png": picture(1)})).status_code == 202
    noise = np.random.default_rng(0).bytes(30_000)
    full = is_problem(post(api, "second", zipped({"a/1.png": noise})), 507, "Data sets are full")
    assert "MINIST_KEEP_DATASETS_BYTES" in str(full["hint"])
    assert api.get("/datasets/second").status_code == 404


def test_a_slow_upload_ends_and_a_fast_one_has_its_time(home: Path, client: httpx2.Client) -> None:
    """The minimum rate holds here, too; what was written is removed."""
    host, port = client.base_url.host, client.base_url.port
    with socket.create_connection((host, port or 80), timeout=60) as connection:
        head = f"POST /datasets?name=slow HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN_KEY}\r\n"
        connection.sendall(f"{head}content-type: application/zip\r\ncontent-length: 1000000\r\n\r\nPK".encode())
        begun = time.monotonic()
        answer = connection.recv(1000)
        assert b" 408 " in answer
        assert time.monotonic() - begun < 30
    wait_for(lambda: not list((home / "datasets").glob(".incoming-*")))


def test_a_client_that_goes_away_leaves_nothing(home: Path, client: httpx2.Client) -> None:
    host, port = client.base_url.host, client.base_url.port
    with socket.create_connection((host, port or 80)) as connection:
        head = f"POST /datasets?name=gone HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN_KEY}\r\n"
        connection.sendall(f"{head}content-type: application/zip\r\ncontent-length: 5000000\r\n\r\n".encode())
        connection.sendall(b"PK\x03\x04" + bytes(2_000_000))
        wait_for(lambda: list((home / "datasets").glob(".incoming-*")))
    wait_for(lambda: not list((home / "datasets").glob(".incoming-*")))
    is_problem(client.get("/datasets/gone"), 404, "Unknown data set")


# -- who may -----------------------------------------------------------------------------------------


def test_importing_needs_the_scope_train_and_only_ones_own_is_deleted(api: TestClient, tmp_path: Path) -> None:
    home = Home.open(Settings(home=tmp_path, device="cpu"))
    made = {scope: home.keys.create(scope, [scope]) for scope in ("predict", "train")}
    home.database.close()
    as_key = {scope: {"authorization": f"Bearer {key}"} for scope, key in made.items()}
    nobody = {"authorization": ""}
    zip_file = {"file": zipped({"a/1.png": picture(1), "b/1.png": picture(2)})}
    is_problem(api.post("/datasets?name=x", files=zip_file, headers=nobody), 401, "Unauthorized")
    is_problem(api.post("/datasets?name=x", files=zip_file, headers=as_key["predict"]), 403, "Forbidden")
    assert api.post("/datasets?name=x", files=zip_file).status_code == 202
    assert api.get("/datasets/x", headers=nobody).status_code == 200
    for part in ("samples", "export"):  # pictures may be people's
        is_problem(api.get(f"/datasets/x/{part}", headers=nobody), 401, "Unauthorized")
    is_problem(api.delete("/datasets/x", headers=as_key["train"]), 403, "Forbidden")
    is_problem(api.delete("/datasets/mnist"), 403, "Forbidden")
    corrections = api.post("/datasets?name=x&from_corrections=digits", headers=as_key["train"])
    is_problem(corrections, 403, "Forbidden")


# -- what stays after a crash ------------------------------------------------------------------------


def test_a_start_removes_what_is_torn_and_nothing_that_is_ready(client: httpx2.Client, home: Path) -> None:
    """A second start beside the running service, as of another worker."""
    body = imported(client, "kept", shades(seed=3))
    datasets = home / "datasets"
    (datasets / ".incoming-aa").write_bytes(b"x")
    os.utime(datasets / ".incoming-aa", (0, 0))
    (datasets / ".sources" / ("0" * 64)).write_bytes(b"x")
    os.utime(datasets / ".sources" / ("0" * 64), (0, 0))
    (home / "runs" / "gone" / "dataset").mkdir(parents=True)
    (datasets / "kept" / "1").rename(datasets / "kept" / ".deleted-1-abcd")  # and died before the commit
    opened = Home.open(Settings(home=home, device="cpu"))
    opened.database.close()
    assert not (datasets / ".incoming-aa").exists()
    assert not (datasets / ".sources" / ("0" * 64)).exists()
    assert not (home / "runs" / "gone" / "dataset").exists()
    assert client.get("/datasets/kept").json()["status"] == "ready"
    assert client.get("/datasets/kept").json()["digest"] == body["digest"]


def test_folders_without_rows_are_adopted(client: httpx2.Client, home: Path, tmp_path: Path) -> None:
    body = imported(client, "lost", shades(seed=5))
    (tmp_path / "datasets" / "lost").mkdir(parents=True)
    (home / "datasets" / "lost" / "1").rename(tmp_path / "datasets" / "lost" / "1")
    opened = Home.open(Settings(home=tmp_path, device="cpu"))
    found = opened.datasets.find("lost")
    opened.database.close()
    assert (found.status, found.digest, found.version) == ("ready", body["digest"], 1)
    missing = client.get("/datasets/lost").json()
    assert (missing["status"], missing["profile"]) == ("failed", None)
    assert post(client, "lost", shades(seed=5)).status_code == 202  # the same version is made again
    assert ended(client, "lost@1")["digest"] == body["digest"]


def test_a_zip_whose_directory_lies_is_a_failed_import(client: httpx2.Client) -> None:
    data = bytearray(shades())
    data[-12:-10] = struct.pack("<H", 60_000)  # members
    data[-10:-6] = struct.pack("<I", 2**31)  # bytes of their list
    assert post(client, "lies", bytes(data)).status_code == 202
    body = ended(client, "lies")
    assert body["status"] == "failed"
    assert "zip" in body["error"]


# -- at the command line -----------------------------------------------------------------------------


def test_the_command_line_imports_also_without_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path / "home"))
    file = tmp_path / "My Photos.zip"
    file.write_bytes(shades())
    assert main(["datasets", "import", str(file), "--options", '{"rename": {"dark": "black"}}']) == 0
    assert main(["datasets", "import", str(file), "--size", "24"]) == 0
    assert main(["datasets", "list"]) == 0
    shown = capsys.readouterr().out
    assert "my-photos@1: 40 grey pictures of 28x28, 2 classes" in shown
    assert "my-photos@2: 40 grey pictures of 24x24, 2 classes" in shown
    assert file.exists()
    assert main(["datasets", "delete", "my-photos@1"]) == 0
    assert main(["datasets", "delete", "my-photos"]) == 0
    assert not list((tmp_path / "home" / "datasets" / ".sources").iterdir())
    file.write_bytes(b"PK\x03\x04 and no more")
    assert main(["datasets", "import", str(file), "--name", "torn"]) == 1
    assert "zip" in capsys.readouterr().err
    assert main(["datasets", "import", str(file), "--name", "mnist"]) == 1
    assert main(["datasets", "delete", "nobody"]) == 1
