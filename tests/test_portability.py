"""What only POSIX has is neither imported nor called without need: service, page and job as on Windows.

Every process of the service runs with a `sitecustomize` that takes away what Windows lacks, and in a locale
whose encoding is not UTF-8. What the real system does besides (paths, consoles, services) is not tested here.
"""

from pathlib import Path

from tests.processes import run_job, service

AS_ON_WINDOWS = """
import asyncio, os, select, stat, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "uvloop", "pwd", "grp", "termios"):
            raise ImportError(f"{name} is not there on Windows")

sys.meta_path.insert(0, Missing())
for name in ("fcntl", "resource", "uvloop", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
for name in ("nice", "getuid", "geteuid", "getgid", "setsid", "killpg", "sched_getaffinity", "getpriority"):
    if hasattr(os, name):
        delattr(os, name)

def selecting(readable, *others, select=select.select):
    if any(stat.S_ISFIFO(os.fstat(one if isinstance(one, int) else one.fileno()).st_mode) for one in readable):
        raise OSError(10038, "an operation was attempted on something that is not a socket")
    return select(readable, *others)

def killing(pid, number, kill=os.kill):
    if number == 0:
        raise SystemError("CTRL_C_EVENT is sent to the console, not asked of a process")
    kill(pid, number)

def lacking(*arguments):
    raise NotImplementedError

select.select, os.kill = selecting, killing
asyncio.BaseEventLoop.add_reader = asyncio.SelectorEventLoop.add_reader = lacking
asyncio.BaseEventLoop.add_signal_handler = asyncio.SelectorEventLoop.add_signal_handler = lacking
"""


def test_page_prediction_and_job_need_nothing_that_only_posix_has(
    tmp_path: Path, digits: dict[str, bytes]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(AS_ON_WINDOWS)
    home = tmp_path / "home"
    home.mkdir()
    with service(
        home,
        PYTHONPATH=str(tmp_path),
        USERNAME="somebody",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    ) as (_, client):
        assert client.get("/").status_code == client.get("/docs").status_code == 200
        assert client.post("/predict", files={"file": digits["7"]}).json()["label"] == "7"
        assert "minist_waiting_images 0.0" in client.get("/metrics").text
        job = run_job(client)
        assert client.get(f"/train/{job['id']}/artifacts/report.html").status_code == 200
        assert client.post("/predict?model=mine", files={"file": digits["7"]}).status_code == 200
    assert "Traceback" not in (home / "service.log").read_text()
