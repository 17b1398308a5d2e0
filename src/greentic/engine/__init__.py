"""Every verb as a pure function: environment + command + clock value -> environment + outcome, or a refusal."""
