c.d
