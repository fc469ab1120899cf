"""`rpiomega firstboot`: what a blank card's boot partition needs, so that the board is ready for the bootstrap."""
