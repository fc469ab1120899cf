"""
What the functions of the execution module `consul` have in common.

They are written as f(client, ...) in omega/consul/exec/*.py; `expose` makes f(consul_url, token, ...) of them.
All return {"res": True, "data" or "message": ...}, or {"res": False, "message": cause and next step, "kind":
of omega.consul.client.ConsulError, "success": False (for Salt's exit status)}. Missing arguments raise
SaltInvocationError, as in Salt's former module.
"""

from __future__ import annotations

import functools
import inspect

from salt.exceptions import SaltInvocationError

from omega.consul.client import ConsulError


def expose(function, connect):
    """
    `function(client, ...)` as a function of the execution module: with the arguments consul_url and token, in
    the order that its attribute `leading` names (that of Salt's former module). Text for an argument whose default is
    True or False is read as such: templates give "False".

    :param connect: called with (consul_url, token), returns the client
    """
    inner = inspect.signature(function)
    own = {parameter.name: parameter for parameter in list(inner.parameters.values())[1:]}
    first = [
        own.pop(name, inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None))
        for name in getattr(function, "leading", ("consul_url", "token"))
    ]
    switches = {name for name, parameter in own.items() if isinstance(parameter.default, bool)}
    signature = inner.replace(parameters=[*first, *own.values()])

    def exposed(*args, **kwargs):
        bound = signature.bind(*args, **{name: v for name, v in kwargs.items() if not name.startswith("__")})
        given = dict(bound.arguments)
        given.update(given.pop("kwargs", {}))
        given.update({name: truth(given[name]) for name in switches & given.keys()})
        url, token = given.pop("consul_url", None), given.pop("token", None)
        try:
            answer = function(connect(url, token), **given)
        except ConsulError as error:
            answer = failed(error)
        bad = isinstance(answer, dict) and answer.get("res") is False
        return {**answer, "success": False} if bad else answer

    functools.update_wrapper(exposed, function)
    del vars(exposed)["__wrapped__"]
    vars(exposed)["__signature__"] = signature
    exposed.__module__ = connect.__module__  # Salt's loader leaves out what is not of the module it loads
    return exposed


def need(**arguments):
    """Raise SaltInvocationError naming the first argument that has no value."""
    for name, value in arguments.items():
        if value is None or value == "":
            raise SaltInvocationError(f'Required argument "{name}" is missing.')


def want(**arguments):
    """As `need`, for those where Salt's former module answered with ``res`` False instead."""
    for name, value in arguments.items():
        if value is None or value == "":
            raise ConsulError("bad_request", f'Required argument "{name}" is missing.')


def known(what, given, names):
    """
    Refuse a call that has arguments besides `names`: without them it would do something else than asked for.

    :raises ConsulError: "bad_request", naming them
    """
    unknown = sorted(set(given) - set(names))
    if unknown:
        takes = ", ".join(sorted(names))
        raise ConsulError("bad_request", f"{what}: unknown argument {', '.join(unknown)}; it takes {takes}")


def data(value):
    """A successful answer that carries something."""
    return {"res": True, "data": value}


def done(message, **more):
    """A successful answer that says what was done."""
    return {"res": True, "message": message, **more}


def failed(error):
    """A call that did not come to an answer."""
    return {"res": False, "message": str(error), "kind": error.kind}


def refused(message, kind="conflict", **more):
    """An answer of Consul that is a no."""
    return {"res": False, "message": message, "kind": kind, **more}


def query(dc=None, stale=False, consistent=False, **more):
    """Query parameters of a read; `more` is left out where it is None or False."""
    params = [("dc", dc), ("stale", "1" if stale else None), ("consistent", "1" if consistent else None)]
    for name, value in more.items():
        params.append((name.replace("_", "-"), "1" if value is True else value or None))
    return [(name, value) for name, value in params if value is not None]


def fields(**values):
    """A request body without the values that are None."""
    return {name: value for name, value in values.items() if value is not None}


def truth(value):
    """Bool of what the command line gives: True, "true", "False", 1, ..."""
    return str(value).strip().lower() in ("true", "1", "yes", "on")


def whole(name, value):
    """The argument `name` as a whole number: 15 or "15"."""
    try:
        return int(str(value))
    except ValueError:
        raise SaltInvocationError(f"{name}: {value!r} is not a whole number") from None


def seconds(value):
    """Number of a duration as people write it: 15, "15", "15s"."""
    try:
        return float(str(value).strip().removesuffix("s"))
    except ValueError:
        raise SaltInvocationError(f"{value!r} is not a number of seconds") from None
