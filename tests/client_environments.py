"""Environments with clients whose requirements do not go with ours: `python -m tests.client_environments`.

They are in `.peers/`, or in the folder that CLIENTS_DIR names, and made anew when other versions are wanted.
"""

import os
from pathlib import Path

from benchmarks.peers.environments import environment
from tests.conftest import ROOT

FOLDER = Path(os.environ.get("CLIENTS_DIR", ROOT / ".peers"))
REQUIREMENTS = {
    "tritonclient": ("tritonclient[http,grpc]==2.73.0",),
    "kserve": ("kserve==0.21.0",),  # 450 MB: made only by hand
}


def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made where needed. Raises Unavailable."""
    return environment(FOLDER / name, REQUIREMENTS[name]) / "python"


if __name__ == "__main__":
    for name in REQUIREMENTS:
        python_of(name)
