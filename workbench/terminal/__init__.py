"""Commands of the command line, one module each: `add_to` tells their options, `work` does them."""
