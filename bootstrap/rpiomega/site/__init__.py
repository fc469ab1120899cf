"""The site file: one YAML file, read by the bootstrap and by Salt's pillar alike."""

from rpiomega.site.errors import Problem, SiteError
from rpiomega.site.load import load
from rpiomega.site.schema import Node, Site

__all__ = ["Node", "Problem", "Site", "SiteError", "load"]
