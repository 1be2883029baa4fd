"""The `kseg` command: one thin file per subcommand, loaded only when it is called."""
