"""What every room may use: types, errors, conditions, progress, exports."""
