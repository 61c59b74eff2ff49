"""No event loop but those of the tests."""

import asyncio

# looptime asks for a loop before every synchronous test; the policy would make one that nobody closes.
asyncio.set_event_loop(None)
