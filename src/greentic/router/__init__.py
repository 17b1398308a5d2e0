"""The data path: match a request, choose a revision, forward, stamp, drain, acknowledge. Touches no store."""
