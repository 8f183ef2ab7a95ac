"""Lock files: one holder at a time, and nobody's once that one has gone."""

import subprocess
import sys
import threading
import time

from runner.tuning import claims


def test_one_holds_it_until_it_is_closed(tmp_path):
    first = claims.take(tmp_path / "a" / "0001")
    assert first is not None and claims.take(tmp_path / "a" / "0001") is None
    other = claims.take(tmp_path / "a" / "0002")
    first.close()
    again = claims.take(tmp_path / "a" / "0001")
    assert again is not None and other is not None
    for one in (again, other):
        one.close()


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from runner.tuning import claims; "
        f"held = claims.take(Path({str(tmp_path / 'lock')!r})); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "held"
        assert claims.take(tmp_path / "lock") is None
    finally:
        process.kill()
        process.communicate()
    found = claims.take(tmp_path / "lock")
    assert found is not None
    found.close()


def test_one_at_a_time_is_within(tmp_path):
    seen = []

    def enter(name):
        with claims.alone(tmp_path / "ask"):
            seen.append(f"{name} in")
            time.sleep(0.05)
            seen.append(f"{name} out")

    threads = [threading.Thread(target=enter, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.split()[1] for one in seen] == ["in", "out"] * 3
    assert all(first[0] == second[0] for first, second in zip(seen[::2], seen[1::2], strict=True))
