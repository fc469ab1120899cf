"""`rpiomega doctor`: facts are read on the boards (`rpiomega.node.doctor`), judged here, each with its cure."""
