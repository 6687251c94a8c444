"""Files made to hurt, and inputs as people have them: right, or refused in one line."""
