module rpiomega/consul

go 1.23
