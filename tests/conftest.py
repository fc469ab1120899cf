"""Salt puts `_utils` on the module path when it loads our modules; the tests do the same."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "_utils"))
