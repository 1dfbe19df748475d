"""The pages that people see: the page itself, the sign-in page and those of links in mails.

Begin with `front_page.py`: a page brings along what its first view needs.

May import: http.
"""
