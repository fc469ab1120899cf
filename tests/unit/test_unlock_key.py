"""The file with the swarm's unlock key: for root alone, wherever it lies."""

import pytest

from omega.swarm.api import SwarmError
from omega.swarm.settings.key import Keyring


def test_a_folder_made_for_the_key_is_closed_and_one_of_others_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    for path in (tmp_path / "unlock-key", tmp_path / "secrets/swarm/unlock-key"):
        Keyring(str(path)).keep("SWMKEY-1-x")
        assert path.stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "secrets/swarm").stat().st_mode & 0o777 == 0o700


def test_a_key_that_cannot_be_written_is_told_without_it(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file/unlock-key"
    with pytest.raises(SwarmError, match=f"not kept in {path}: .*keep_unlock_key") as caught:
        Keyring(str(path)).keep("SWMKEY-1-x")
    assert "SWMKEY" not in str(caught.value)
