"""The web application in which people compare: projects, who gets which item, and what becomes of an answer.

`claiming` hands out items, `submitting` takes answers, `sides` orders what is shown, and `web` is the application around them.
"""
