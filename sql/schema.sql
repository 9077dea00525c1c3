-- Everything Wakelog owns lives in this one schema. Two logs are two databases.
create schema if not exists wakelog;
