"""What workers do, one file a stage; each is a function of a frozen run and its directory."""
