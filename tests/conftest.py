import pytest, dataclasses
from app.store.sqlite import open_sqlite
@dataclasses.dataclass
class S:
    documents: object; blobs: object
@pytest.fixture
async def fresh_store(tmp_path):
    opened=[]
    async def make():
        d,b=await open_sqlite(tmp_path/f"s{len(opened)}.db"); opened.append(d); return S(d,b)
    yield make
    for d in opened: await d.close()
@pytest.fixture
async def store(fresh_store):
    return await fresh_store()
