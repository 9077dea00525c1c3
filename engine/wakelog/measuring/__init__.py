"""How fast a server and its workers are: what `wakelog bench` and the benchmarks of this repository measure with."""
