"""Keys of ours are made of names of the site file: none may be one that Consul 1.22 refuses or changes."""

import posixpath
from typing import get_args
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rpiomega.site import values


@pytest.mark.parametrize("kind", ["Name", "StackName"])
@given(data=some.data())
def test_a_name_of_the_site_file_is_a_part_of_a_key_that_consul_takes_as_it_is(kind, data):
    shape = get_args(getattr(values, kind))[1].func
    name = data.draw(some.from_regex(shape.pattern, fullmatch=True))
    key = f"rpiomega/swarm/nodes/{shape(name)}"
    assert posixpath.normpath(key) == unquote(key) == key.strip() == key
