"""What `rpiomega doctor` reads on a board. Only facts: what is wrong with them is judged on the workstation."""
