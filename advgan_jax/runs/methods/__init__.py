"""The methods that `config.method` names: a module each, from configuration to rows."""
