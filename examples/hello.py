"""The smallest agent there is.

wakelog worker examples/hello.py
wakelog append user.signed_up '{"name": "Ada"}'     # in another terminal; then: wakelog tail
"""

from wakelog import Context, Event, Wakelog

app = Wakelog("hello")


@app.agent("greeter", on="user.signed_up")
async def greet(event: Event, ctx: Context) -> dict[str, str]:
    return {"text": f"Hello, {event.payload['name']}!"}  # becomes the event `greeter.completed`
