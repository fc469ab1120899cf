"""Bootstrap, laboratory and checks of an rpiomega cluster; everything here runs on the workstation but `node`."""

__version__ = "0.2.0"
