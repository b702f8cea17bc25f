"""The pages, a file each: `show` draws one."""
