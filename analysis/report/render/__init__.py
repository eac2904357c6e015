"""How content becomes text: HTML, tables in four forms, the terminal."""
