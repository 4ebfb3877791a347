"""The ways in: AWS Lambda, Apache OpenWhisk, and a server. No platform's file imports another's.

`container` and `cold_start` hold the parts that the serverless platforms share.
"""
