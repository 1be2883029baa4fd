"""The parts of the task "semantic": one class for every pixel. `kseg.tasks` names them."""
