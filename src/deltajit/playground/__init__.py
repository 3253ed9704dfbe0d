"""The playground: a network that one watches while it learns, in the browser.

``deltajit playground`` starts it; only `pictures`, `page` and `server` need Bokeh. From the ground
up: data (`datasets`, `formulas`, `tables`), what is trained (`settings`), training in a thread
(`trainer`), what is drawn (`pictures`, `lesson`), and the page with its widgets (`page`, `server`).
"""
