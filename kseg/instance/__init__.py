"""The parts of the task "instance": what finds each object, with its class and its mask."""
