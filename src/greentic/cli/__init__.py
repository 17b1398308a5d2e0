"""`gtc`: words in, tables or JSON out. One module per noun; nothing here decides anything."""
