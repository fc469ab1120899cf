"""The file with the swarm's unlock key: for root alone, wherever it lies."""

from omega_swarm_spec_key import Keyring


def test_a_folder_made_for_the_key_is_closed_and_one_of_others_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    for path in (tmp_path / "unlock-key", tmp_path / "secrets/swarm/unlock-key"):
        Keyring(str(path)).keep("SWMKEY-1-x")
        assert path.stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "secrets/swarm").stat().st_mode & 0o777 == 0o700
