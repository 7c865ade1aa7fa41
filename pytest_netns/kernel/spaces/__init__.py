"""Network namespaces: made, entered, configured, watched until they are gone."""
