"""Ray graphs and run-keeping around the library: plan, work, commit, finish, verify."""
